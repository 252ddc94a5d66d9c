"""Claims about jvrc2026's networks: they give the stored numbers of the prototype at every stage.

tests/golden/jvrc2026/*.npz hold an image, two qsteps, random parameters and every stage, of two
sizes that differ in h_s's last kernel (3x3, 1x1) and in the wide layer of a block (summed in four,
or not).
"""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jvrc.model import architectures, entropy_models, jvrc2026, residual, transforms, variable_rate
from jvrc.model.config import config_of

FOLDER = Path(__file__).parents[1] / "golden" / "jvrc2026"
CONFIG = config_of("jvrc2026", M=8, N=5, latent_scale=1 / 0.06, hyper_scale=8.0)


def nested(arrays):
    tree = {}
    for name, value in arrays.items():
        *path, last = name.split("/")
        node = tree
        for key in path:
            node = node.setdefault(key, {})
        node[last] = value
    return tree


@pytest.fixture(scope="module", params=["small", "large"])
def golden(request):
    with np.load(FOLDER / f"{request.param}.npz") as file:
        return nested(dict(file))


@pytest.fixture(scope="module")
def features(golden):
    return jvrc2026.features_of(golden["params"], golden["qsteps"])


@partial(jax.jit, static_argnums=0)
def stages(steps, params, x, qsteps):
    """Every stage of coding and decoding, in plain float arithmetic."""
    y = jvrc2026.g_a(CONFIG, params["g_a"], x)
    z = transforms.h_a(CONFIG, params["h_a"], y)
    qstep = qsteps[:, None, None, None]
    z_step = variable_rate.z_step(params["z_step"], qstep)
    m = entropy_models.medians(params["bottleneck"])[None, None, None]
    z_hat = m + z_step * jnp.round((z - m) / z_step)
    sigma, first = jvrc2026.hyper_parameters(CONFIG, params["h_s"], z_hat)
    scale = jnp.maximum(sigma / qstep, entropy_models.SCALE_MIN)
    delta = variable_rate.offset(params["offset"], scale, qstep)
    features = jvrc2026.features_of(params, qsteps)
    known, q, mu = jnp.zeros_like(y), jnp.zeros_like(y), jnp.zeros_like(y)
    for step in range(steps):
        mean = jvrc2026.means(CONFIG, params["context"], step, known, first, features)
        now = jvrc2026.step_mask(CONFIG, step, *y.shape[1:3])[None]
        symbols = jnp.round((y - mean) / qstep)
        found = variable_rate.reconstruct(symbols, mean, qstep, delta)
        known = jnp.where(now, found, known)
        q, mu = jnp.where(now, symbols, q), jnp.where(now, mean, mu)
    x_hat = jnp.clip(jvrc2026.g_s(CONFIG, params["g_s"], known, features), 0, 1)
    return {
        **{"y": y, "z": z, "z_hat": z_hat, "mu0": first, "scale": scale, "offset": delta},
        **{"mu": mu, "q": q, "y_hat": known, "x_hat": x_hat},
    }


def test_every_stage_gives_the_prototypes_numbers(golden):
    x = np.repeat(golden["image"][None], 2, axis=0) / np.float32(255)
    with jax.default_matmul_precision("highest"):
        found = stages(jvrc2026.STEPS, golden["params"], x, golden["qsteps"])
    for name, value in found.items():
        expected = golden["stage"][name]
        rms = np.sqrt(np.mean(np.square(expected)))
        assert np.abs(value - expected).max() <= 1e-4 * rms, name


def test_the_whole_models_forward_pass_gives_them_too(golden):
    x = np.repeat(golden["image"][None], 2, axis=0) / np.float32(255)
    forward = jax.jit(architectures.forward, static_argnums=0)
    with jax.default_matmul_precision("highest"):
        found = forward(CONFIG, golden["params"], x, golden["qsteps"], None)
    stage = golden["stage"]
    np.testing.assert_allclose(jnp.clip(found.x_hat, 0, 1), stage["x_hat"], atol=1e-4)
    np.testing.assert_allclose(found.bits_y, stage["bits_y"], rtol=1e-4)
    np.testing.assert_allclose(found.bits_z, stage["bits_z"], rtol=1e-4)


def test_each_latent_is_reconstructed_in_one_step_and_neighbours_in_others():
    masks = np.stack([jvrc2026.step_mask(CONFIG, s, 4, 6) for s in range(jvrc2026.STEPS)])
    assert np.all(masks.sum(0) == 1)
    step = masks.argmax(0)
    for channel in range(CONFIG.M):
        blocks = step[..., channel].reshape(2, 2, 3, 2).transpose(0, 2, 1, 3).reshape(-1, 4)
        assert all(sorted(block) == [0, 1, 2, 3] for block in blocks)
    assert len({tuple(step[0, 0, c : c + 2]) for c in range(0, 8, 2)}) == 4  # groups of M / 4


def test_space_to_depth_has_its_inverse():
    x = np.arange(2 * 8 * 16 * 3, dtype=np.float32).reshape(2, 8, 16, 3)
    deep = jvrc2026.space_to_depth(x, 8)
    assert deep.shape == (2, 1, 2, 192)
    np.testing.assert_array_equal(deep[1, 0, 1, :3], x[1, 0, 8])
    np.testing.assert_array_equal(jvrc2026.depth_to_space(deep, 8), x)


def test_a_film_of_zeros_is_the_identity_and_one_delta_folds_into_the_next_layer(golden, features):
    params = golden["params"]["g_s"]["block0"]
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 6)).astype(np.float32)
    zero = {"kernel": np.zeros_like(params["film0"]["kernel"])}
    np.testing.assert_array_equal(residual.film(zero, features, x), x)
    s, t = np.split(np.asarray(features[:1] @ params["film0"]["kernel"]), 2, axis=-1)
    kernel, bias = params["in"]["kernel"], params["in"]["bias"]
    folded = {"kernel": (1 + s[0])[:, None] * kernel, "bias": bias + (t @ kernel)[0]}
    modulated = residual.film(params["film0"], features[:1], x[:1])
    expected = residual.dense(params["in"], modulated)
    np.testing.assert_allclose(residual.dense(folded, x[:1]), expected, atol=2e-5)


@pytest.mark.parametrize("name", ["g_a", "g_s", "means"])
def test_an_image_inside_a_larger_tile_gives_what_it_gives_alone(golden, features, name):
    """What lies outside of the image is masked: `valid`, in pixels, names its part of the tile."""
    rng = np.random.default_rng(1)
    pixels = 64 if name == "g_a" else 4
    x = rng.normal(size=(2, pixels, pixels, 3 if name == "g_a" else 8)).astype(np.float32)

    def run(x, valid):
        params = golden["params"]["context" if name == "means" else name]
        if name == "g_a":
            return jvrc2026.g_a(CONFIG, params, x, valid)
        if name == "g_s":
            return jvrc2026.g_s(CONFIG, params, x, features, valid)
        return jvrc2026.means(CONFIG, params, 2, x, x[..., ::-1], features, valid)

    around = np.pad(x, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)))
    alone = np.asarray(run(x, None))
    inside = np.asarray(run(around, (64, 128, 64, 128)))
    side = alone.shape[1]
    part = inside[:, side : 2 * side, side : 2 * side]
    np.testing.assert_allclose(part, alone, atol=1e-4 * np.abs(alone).max())
