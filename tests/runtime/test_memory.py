"""Claims about the settings of the memory allocator."""

import ctypes
import sys

import pytest

from jvrc.runtime import memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs glibc")


@pytest.mark.parametrize(
    ("chosen", "platforms", "device", "settings"),
    [
        ("", "", "/dev/none", {-1, -4, -8}),
        ("16", "", "/dev/none", {-1, -4}),
        ("", "", "/dev/null", {-1, -4}),
        ("", "cuda,cpu", "/dev/null", {-1, -4}),
        ("", "cpu", "/dev/null", {-1, -4, -8}),
    ],
)
def test_one_arena_unless_the_user_or_an_accelerator_wants_more(
    monkeypatch, chosen, platforms, device, settings
):
    asked = {}

    class Library:
        @staticmethod
        def mallopt(name, value):
            asked[name] = value
            return 1

    monkeypatch.setattr(ctypes, "CDLL", lambda _: Library)
    monkeypatch.setenv("MALLOC_ARENA_MAX", chosen)
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    monkeypatch.setattr(memory, "ACCELERATORS", (device,))
    assert memory.keep_freed_memory()
    assert set(asked) == settings
