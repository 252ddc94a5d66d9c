"""Claims about coding with jvrc2026: means in four steps, and what their rounding errors do."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jvrc.codec.files import compress, decompress
from jvrc.codec.latent_coders import stepwise
from jvrc.codec.latent_coders.by_architecture import coder_of
from jvrc.codec.transforms import tiling
from jvrc.codec.transforms.latents import analyse, quantise_z, synthesise
from jvrc.model import jvrc2026
from jvrc.model.config import config_of
from jvrc.qstep import qstep_code_of, qstep_of, qstep_row

CODE = qstep_code_of(1.5)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def coded(model, img, code=CODE):
    """(y, coder, symbols) of an image."""
    y, z = analyse(model, img)
    coder = coder_of(model, quantise_z(model, z, code), code)
    return y, coder, coder.quantise(y)


def test_the_decoder_restores_what_the_encoder_meant(tiny_2026):
    """The image follows from the coded integers by the equations of the method."""
    model, config, qstep = tiny_2026, tiny_2026.config, qstep_of(CODE)
    y, coder, symbols = coded(model, noise(64, 128))
    offsets = model.offsets[qstep_row(CODE)][symbols.index] / 512
    features = jvrc2026.features_of(model.params, jnp.full(1, qstep))
    step_means = jax.jit(partial(jvrc2026.means, config), static_argnums=1)
    known, spread = np.zeros_like(y), []
    for step in range(jvrc2026.STEPS):
        mu = step_means(model.params["context"], step, known[None], symbols.mu[None], features)
        mu = np.asarray(mu)[0]
        now = jvrc2026.step_mask(config, step, *y.shape[:2])
        assert np.abs((y - mu) / qstep - symbols.y)[now].max() < 0.501
        q = symbols.y
        y_hat = mu + qstep * np.sign(q) * (np.abs(q) - offsets)
        known = np.where(now, y_hat, known)
        spread.append(np.abs(mu - symbols.mu)[now].max())
    assert spread[0] == 0
    assert min(spread[1:]) > 0.01  # the context has something to say
    np.testing.assert_allclose(coder.reconstruct(symbols), known, atol=1e-4)


def test_a_small_image_and_a_large_one_take_the_same_steps(monkeypatch, tiny_2026):
    """In tiles as in one piece."""
    model = tiny_2026
    y, whole, symbols = coded(model, noise(64 * 9, 64 * 11))
    y_hat = whole.reconstruct(symbols)
    z_q = quantise_z(model, analyse(model, noise(64 * 9, 64 * 11))[1], CODE)
    monkeypatch.setattr(tiling, "SHAPES", ((6, 6),))
    tiled = coder_of(model, z_q, CODE)
    np.testing.assert_allclose(tiled.reconstruct(symbols), y_hat, atol=1e-5)
    assert np.mean(tiled.quantise(y).y != symbols.y) < 1e-4  # near ties


def test_encoder_and_decoder_find_the_same_means_to_the_last_bit(tiny_2026):
    y, coder, symbols = coded(tiny_2026, noise(128, 64))
    meant = coder.run_steps(y, given=False)[0]
    np.testing.assert_array_equal(coder.reconstruct(symbols), meant)


@pytest.mark.parametrize("size", [1e-5, 1e-4])
def test_an_error_of_every_mean_moves_pixels_by_one_at_most(monkeypatch, tiny_2026, size):
    model, (_, coder, symbols) = tiny_2026, coded(tiny_2026, noise(128, 128))
    meant = coder.reconstruct(symbols)
    img = synthesise(model, meant, CODE)
    means, rng = jvrc2026.means, np.random.default_rng(0)

    def off(*args, **kwargs):
        mu = means(*args, **kwargs)
        return mu + size * rng.uniform(-1, 1, mu.shape).astype(np.float32)

    monkeypatch.setattr(jvrc2026, "means", off)
    jax.clear_caches()
    moved, _ = coder.run_steps(symbols.y.astype(np.float32), given=True)  # computed anew
    jax.clear_caches()
    assert 0 < np.abs(moved - meant).max() < 20 * size
    difference = np.abs(synthesise(model, moved, CODE).astype(int) - img)
    assert difference.max() <= 1


def test_delta_is_known_within_the_range_of_training_only(tiny_2026):
    low, high = tiny_2026.metadata["qstep_range"]
    features = partial(jvrc2026.features_of, tiny_2026.params)
    np.testing.assert_array_equal(features(jnp.full(1, low / 2)), features(jnp.full(1, low)))
    np.testing.assert_array_equal(features(jnp.full(1, high * 2)), features(jnp.full(1, high)))
    assert np.ptp(np.stack([features(jnp.full(1, low)), features(jnp.full(1, high))]), axis=0).any()


def test_what_knows_delta_changes_the_image_and_no_symbol_of_the_first_step(tiny_2026):
    params = tiny_2026.params
    still = jax.tree_util.tree_map_with_path(
        lambda path, a: 0 * a if any("film" in k.key for k in path) else a, params
    )
    img = noise(64, 64)
    other = dataclasses.replace(tiny_2026, params=still)
    data = compress(tiny_2026, img, 3.0, patches=False)
    assert not np.array_equal(decompress(other, data), decompress(tiny_2026, data))
    first = jvrc2026.step_mask(tiny_2026.config, 0, 4, 4)
    a, b = (coded(model, img, qstep_code_of(3.0))[2].y[first] for model in (tiny_2026, other))
    np.testing.assert_array_equal(a, b)


def test_the_margin_of_the_steps_covers_every_block():
    config = config_of("jvrc2026", context_blocks=2)
    assert stepwise.context_margin(config) == 2  # three steps of two latents: six of eight
    assert stepwise.context_margin(config_of("jvrc2026", context_blocks=3)) == 3
