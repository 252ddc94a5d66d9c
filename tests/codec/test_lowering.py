"""Every program of coding and freezing lowers for TPUs and GPUs, on a machine that has neither.

Programs are recorded as they are called on the CPU, so that no list of them has to be kept: they
are the jitted functions that the packages below define.
"""

import functools
import importlib
import pkgutil

import jax.numpy as jnp
import numpy as np
import pytest
from small import always_refined, random_model, random_params, refined_2026, small_config

import jvrc
from jvrc.codec import differentiable
from jvrc.codec.image import decoder
from jvrc.coding import range_coder
from jvrc.model.config import ARCHITECTURES, Config

PLATFORMS = ("tpu", "cuda")
PACKAGES = ("codec", "coding", "integer", "export")

pytestmark = [pytest.mark.usefixtures("quick_compilation"), pytest.mark.slow]


def jitted_functions():
    """{"module.name": (module, name, function)} of the jitted functions that PACKAGES define."""
    found = {}
    for package in PACKAGES:
        root = importlib.import_module(f"jvrc.{package}")
        for info in pkgutil.walk_packages(root.__path__, f"{root.__name__}."):
            module = importlib.import_module(info.name)
            for name, value in vars(module).items():
                jitted = hasattr(value, "lower") and hasattr(value, "trace")
                if jitted and value.__module__ == module.__name__:
                    found[f"{module.__name__}.{name}"] = module, name, value
    return found


def lowering(function, seen):
    """The function; each program of it is lowered for PLATFORMS when it is called first.

    seen: a set, to which the architectures of the calls are added; None where it has none.
    """

    @functools.wraps(function)
    def call(*args, **kwargs):
        config = next((a.architecture for a in args if isinstance(a, Config)), None)
        if config not in seen:
            seen.add(config)
            function.trace(*args, **kwargs).lower(lowering_platforms=PLATFORMS)
        return function(*args, **kwargs)

    return call


@pytest.fixture
def lowered(monkeypatch):
    """{"module.name": architectures} of the programs lowered so far."""
    programs = jitted_functions()
    seen = {path: set() for path in programs}
    for path, (module, name, function) in programs.items():
        monkeypatch.setattr(module, name, lowering(function, seen[path]))
    return seen


def code(model, photo):
    """Code an image with a search, and read it back; also with all lanes at once, as GPUs do."""
    img = photo[:64, :64]
    data = jvrc.compress(model, img, 4, effort=1)
    assert jvrc.decompress(model, data).shape == img.shape
    symbols = decoder.decode_symbols(model, data)[1]
    prepared = range_coder.prepare(model.y_tables)
    index = symbols.index.ravel().astype(np.int32)
    zeros = np.zeros(len(index), np.int32)
    stream = range_coder.encode(zeros, index, prepared, 4)
    decoded = range_coder.decode(stream, index, prepared, 4, lanes_at_once=True)
    np.testing.assert_array_equal(decoded, zeros)


def test_coding_and_freezing(lowered, photo, tmp_path):
    for architecture in ARCHITECTURES:
        config = small_config(architecture, latent_scale=20.0, hyper_scale=4.0)
        code(random_model(config, random_params(config), tmp_path / architecture), photo)
        differentiable.forward((config, random_params(config)), jnp.zeros((1, 64, 64, 3)), 4.0)
    with always_refined():
        code(refined_2026(tmp_path / "refined"), photo)
    assert not [path for path, architectures in lowered.items() if not architectures]
