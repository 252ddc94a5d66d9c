"""Claims about the devices of a process: the CPU is among them, and what is missing is named."""

import os

import jax
import pytest

from jvrc.runtime import devices


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "")
    yield
    monkeypatch.setenv("JAX_PLATFORMS", "")
    devices.add_cpu()


@pytest.mark.parametrize(
    ("chosen", "found"), [("", ""), ("cpu", "cpu"), ("cuda,cpu", "cuda,cpu"), ("cuda", "cuda,cpu")]
)
def test_the_cpu_is_added_to_the_platforms_that_a_user_chose(monkeypatch, chosen, found):
    monkeypatch.setenv("JAX_PLATFORMS", chosen)
    devices.add_cpu()
    assert os.environ["JAX_PLATFORMS"] == found


def no_backend(*_, **__):
    raise RuntimeError("Unknown backend")


def test_a_missing_platform_is_named_with_the_remedy(monkeypatch):
    devices.check()
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    devices.add_cpu()
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")  # what JAX falls back on
    with pytest.raises(RuntimeError, match="^JAX_PLATFORMS=cuda: JAX finds no such device.* unset"):
        devices.check()
    monkeypatch.setattr(jax, "default_backend", no_backend)
    with pytest.raises(RuntimeError, match="^JAX_PLATFORMS=cuda: JAX finds no such device.* unset"):
        devices.check()


def test_a_process_without_the_cpu_is_told_how_to_get_it(monkeypatch):
    assert devices.cpu() == jax.devices("cpu")[0]
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr(jax, "local_devices", no_backend)
    with pytest.raises(RuntimeError, match="add cpu to JAX_PLATFORMS, .*cuda,cpu; it is cuda"):
        devices.cpu()
