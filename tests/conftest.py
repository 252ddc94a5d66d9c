"""Fixtures that several test files share."""

import os
import signal

import jax
import numpy as np
import pytest
from small import random_model, random_params, small_config

from jvrc.frozen.model import FrozenModel
from jvrc.model.config import ARCHITECTURES


@pytest.fixture(scope="session", autouse=True)
def _heeds_interrupts():
    """A shell starts what runs in its background with SIGINT ignored, and children inherit that."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _compile_once(tmp_path_factory):
    """One compilation cache for the session: many tests compile the same programs anew.

    The processes of pytest-xdist share it, and so do the commands of jvrc that tests start.
    """
    folder = os.environ.get("JVRC_TEST_CACHE") or str(_shared_folder(tmp_path_factory))
    os.environ["JVRC_CACHE_DIR"] = folder
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _shared_folder(tmp_path_factory):
    """Return a folder that all processes of this test session name alike."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "compiled"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def _strict_promotion():
    """Broadcasts and conversions are written out: a forgotten axis or dtype is an error."""
    jax.config.update("jax_numpy_rank_promotion", "raise")
    jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(scope="module")
def quick_compilation():
    """For programs that compile longer than they run. What is compiled already is forgotten: what
    a process of its own computes must not differ in how it was compiled.
    """
    jax.config.update("jax_disable_most_optimizations", True)
    jax.clear_caches()
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()


@pytest.fixture
def compiled():
    """A list that grows by one, the seconds, with each program compiled or read from the cache."""
    found, listening = [], [True]

    def listener(event, duration, **_):
        if listening and event.endswith("backend_compile_duration"):
            found.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listener)
    jax.jit(lambda x: x + 1)(1.0)
    assert found, "compiling is not noticed"
    found.clear()
    yield found
    listening.clear()  # older versions of JAX can't unregister one


def tiny_model(architecture: str, folder) -> FrozenModel:
    """A frozen model with random weights, saved and read back."""
    config = small_config(architecture, N=6, M=10, latent_scale=20.0, hyper_scale=4.0)
    return random_model(config, random_params(config), folder / f"{architecture}.safetensors")


@pytest.fixture(scope="session", params=ARCHITECTURES)
def tiny(request, tmp_path_factory) -> FrozenModel:
    """Tiny frozen models of each architecture, in turn."""
    return tiny_model(request.param, tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session", params=[name for name in ARCHITECTURES if "2018" in name])
def tiny_2018(request, tmp_path_factory) -> FrozenModel:
    """Tiny frozen models of the architectures of 2018, in turn."""
    return tiny_model(request.param, tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_2026(tmp_path_factory) -> FrozenModel:
    """The tiny model of jvrc2026."""
    return tiny_model("jvrc2026", tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_context(tmp_path_factory) -> FrozenModel:
    """The tiny model that has a context."""
    return tiny_model("mbt2018", tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """A real photograph, uint8 [400,600,3]."""
    from jvrc import demo
    from jvrc.io import images

    return images.read_image(demo.bundled_photo())
