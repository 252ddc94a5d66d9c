"""Claims about `jvrc.forward`: its rates are those of files, and JAX transforms it."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import small_config, trained_params

import jvrc
from jvrc.codec.tiles import back_projection

QUICK = {"xla_backend_optimization_level": 0}  # these programs compile longer than they run
CONFIG = small_config("mbt2018-mean", latent_scale=20.0, hyper_scale=3.0)
PARAMS = trained_params(CONFIG)


@pytest.fixture(scope="module")
def x():
    """Two images whose sides are no multiples of 64."""
    return np.random.default_rng(0).uniform(size=(2, 40, 70, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def out(x):
    return jvrc.forward((CONFIG, PARAMS), x, 2.0)


@pytest.mark.parametrize("qstep", [1.5, 6.0])
def test_rate_and_psnr_are_those_of_the_file(photo, qstep, monkeypatch):
    """A file is longer by its header, about 32 bytes, and smaller by scale adaptation.

    And by the refinement of scales, which the estimate does without, as without back-projection.
    """
    monkeypatch.setattr(back_projection, "pays", lambda *_: False)
    model, img = replace(jvrc.load("jvrc2026"), refinement=None), photo[40:210, 200:450]
    out = jvrc.forward(model, img[None] / np.float32(255), qstep)
    data = jvrc.compress(model, img, qstep)
    assert 8 * (len(data) - 32) == pytest.approx(float(out.bits[0]), rel=0.02)
    error = (jvrc.decompress(model, data).astype(float) - img) / 255
    assert -10 * np.log10(np.mean(error**2)) == pytest.approx(float(out.psnr[0]), abs=0.15)


def test_shapes_are_those_of_the_batch(out, x):
    assert out.x_hat.shape == x.shape
    assert out.bits.shape == out.bpp.shape == out.mse.shape == out.psnr.shape == (2,)
    np.testing.assert_allclose(out.bpp, out.bits / (40 * 70), rtol=1e-6)
    np.testing.assert_allclose(out.mse, np.mean((x - out.x_hat) ** 2, axis=(1, 2, 3)), rtol=1e-5)
    assert np.min(out.x_hat) >= 0
    assert np.max(out.x_hat) <= 1


def test_each_image_has_its_own_qstep(out, x):
    both = jvrc.forward((CONFIG, PARAMS), x, jnp.array([2.0, 8.0]))
    np.testing.assert_allclose(both.bits[0], out.bits[0], rtol=1e-4)
    assert both.bits[1] < out.bits[1]


def test_steps_may_be_traced_one_by_one(x):
    def both(q):
        return jvrc.forward((CONFIG, PARAMS), x, [q, 2 * q]).bits

    assert jax.eval_shape(both, jnp.float32(2)).shape == (2,)


def test_a_frozen_model_is_an_argument_of_a_jitted_function(tiny_2026, x):
    jitted = jax.jit(jvrc.forward, compiler_options=QUICK)
    a, b = jitted(tiny_2026, x, 3.0), jvrc.forward(tiny_2026, x, 3.0)
    np.testing.assert_allclose(a.bits, b.bits, rtol=1e-3)


def test_vmap_over_images_gives_what_the_batch_does(out, x):
    def bits(image):
        return jvrc.forward((CONFIG, PARAMS), image[None], 2.0).bits[0]

    found = jax.jit(jax.vmap(bits), compiler_options=QUICK)(x)
    np.testing.assert_allclose(found, out.bits, rtol=1e-4)


def test_gradients_of_image_step_and_parameters_are_finite_and_not_zero(x):
    def loss(params, x, qstep):
        out = jvrc.forward((CONFIG, params), x, qstep, key=jax.random.key(0))
        return jnp.sum(out.bpp) + 1000 * jnp.sum(out.mse)

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1, 2)), compiler_options=QUICK)
    of_params, of_x, of_qstep = gradient(PARAMS, x, jnp.float32(2))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((of_params, of_x)))
    for part in CONFIG.parts:
        assert any(np.any(leaf) for leaf in jax.tree.leaves(of_params[part])), part
    assert np.any(of_x)
    assert float(of_qstep) != 0


def test_noise_moves_the_rate_and_not_the_image(out, x):
    noisy = jvrc.forward((CONFIG, PARAMS), x, 2.0, key=jax.random.key(1))
    np.testing.assert_allclose(noisy.x_hat, out.x_hat, atol=1e-4)
    assert np.all(noisy.bits != out.bits)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"x": np.zeros((8, 8, 3), np.float32)}, r"x must be \[B,H,W,3\]; got \[8, 8, 3\]"),
        ({"x": np.zeros((1, 8, 8, 3), np.uint8)}, "got uint8: divide uint8 by 255"),
        ({"qstep": np.ones(3, np.float32)}, r"qstep must be a number or \[2\]; got \[3\]"),
        *(({"qstep": q}, "qstep must be positive, a") for q in (0, -1, np.nan, np.inf, "4", True)),
        *(({"qstep": q}, "qstep must be positive, a") for q in ([1.0, -1.0], (np.nan, 1.0))),
        ({"params": "jvrc2026"}, "params must be a FrozenModel, .* got str"),
        ({"params": (None, {})}, "params must be a FrozenModel, .* got tuple"),
    ],
)
def test_wrong_arguments_are_named_with_their_rule(x, wrong, message):
    arguments = {"params": (CONFIG, PARAMS), "x": x, "qstep": 2.0} | wrong
    with pytest.raises(ValueError, match=message):
        partial(jvrc.forward, **arguments)()
