"""Claims about the four transforms."""

import jax
import numpy as np
import pytest

from jvrc.model import modules, transforms
from jvrc.model.config import config_of

NAMES = ("bmshj2018-hyperprior", "mbt2018-mean")  # mbt2018 has the transforms of the latter
SCALE, MEAN = (config_of(a, N=4, M=6, latent_scale=20.0, hyper_scale=4.0) for a in NAMES)
TRANSFORMS = {"g_a": (1, 16), "g_s": (16, 1), "h_a": (16, 64), "h_s": (64, 16)}  # strides in, out
INPUTS = {"g_a": 3, "g_s": 6, "h_a": 6, "h_s": 4}  # channels
CASES = [
    pytest.param(name, config, id=f"{name}-{config.architecture}")
    for name in TRANSFORMS
    for config in ((MEAN,) if name[0] == "g" else (MEAN, SCALE))
]
apply = {name: jax.jit(getattr(transforms, name), static_argnums=0) for name in TRANSFORMS}


def random_params(name, config):
    """Random weights in the shapes that the transform starts with."""
    rng = np.random.default_rng(7)

    def draw(path, leaf):
        if path[-1].key in ("beta", "gamma"):
            return rng.uniform(0.1, 1.0, leaf.shape).astype(np.float32)
        return rng.normal(0, 0.15, leaf.shape).astype(np.float32)

    shapes = jax.eval_shape(lambda key: modules.init_params(key, config)[name], jax.random.key(0))
    return jax.tree_util.tree_map_with_path(draw, shapes)


def outputs(name, config, x, valid=None):
    """The transform's outputs as one array [B,h,w,C]."""
    result = apply[name](config, random_params(name, config), x, valid)
    return np.concatenate(result, -1) if isinstance(result, tuple) else np.asarray(result)


def normal(*shape):
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(("name", "config"), CASES)
def test_a_picture_inside_a_larger_tile_gives_what_it_gives_alone(name, config):
    """`valid` makes everything outside zero, as padding at the image's border is."""
    before, after = TRANSFORMS[name]
    image = normal(2, 64 // before, 128 // before, INPUTS[name])
    margins = [(0, 0), (64 // before, 0), (64 // before, 128 // before), (0, 0)]
    tile = np.pad(image, margins)
    if name == "g_a":
        tile = np.where(np.pad(np.ones_like(image), margins) == 1, tile, 9.0)  # masked by g_a
    valid = np.array([64, 128, 64, 192], np.int32)
    inside = np.s_[:, 64 // after : 128 // after, 64 // after : 192 // after]
    alone, embedded = outputs(name, config, image), outputs(name, config, tile, valid)
    assert embedded.shape[1:3] == (128 // after, 320 // after)
    assert np.std(alone) > 0.01
    np.testing.assert_allclose(embedded[inside], alone, rtol=1e-5, atol=1e-5 * np.abs(alone).max())


@pytest.mark.parametrize(("name", "config"), CASES)
def test_shapes(name, config):
    before, after = TRANSFORMS[name]
    x = jax.ShapeDtypeStruct((2, 128 // before, 64 // before, INPUTS[name]), np.float32)
    params = random_params(name, config)
    got = jax.eval_shape(lambda x: getattr(transforms, name)(config, params, x), x)
    channels = {"g_a": 6, "g_s": 3, "h_a": 4, "h_s": 6}[name]
    expected = (2, 128 // after, 64 // after, channels)
    assert {leaf.shape for leaf in jax.tree.leaves(got)} == {expected}


def test_the_scale_hyperprior_sees_magnitudes_only():
    y = normal(1, 4, 4, 6)
    np.testing.assert_array_equal(outputs("h_a", SCALE, y), outputs("h_a", SCALE, -y))
    assert not np.allclose(outputs("h_a", MEAN, y), outputs("h_a", MEAN, -y))


@pytest.mark.parametrize("config", [SCALE, MEAN], ids=NAMES)
def test_only_the_scale_hyperprior_has_no_mean(config):
    sigma, mu = apply["h_s"](config, random_params("h_s", config), normal(1, 1, 1, 4), None)
    assert np.all(np.asarray(sigma) > 0)
    assert np.any(mu) == config.predicts_mean


def test_extreme_log_scales_stay_finite():
    z = 1e6 * normal(1, 1, 1, 4)
    sigma, _ = apply["h_s"](SCALE, random_params("h_s", SCALE), z, None)
    assert np.all(np.isfinite(sigma))
    assert np.all(np.asarray(sigma) > 0)
