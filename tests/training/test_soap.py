"""Claims about SOAP over stacked matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jvrc.training.update.soap import soap, soap_or_adam

MATRIX = jnp.ones((6, 5))


def loss_after(rule, steps):
    """The loss of a quadratic that is badly conditioned along rotated axes."""
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(n, n)))[0] for n in (12, 10))
    scale = jnp.asarray(np.outer(np.geomspace(1, 10, 12), np.geomspace(1, 10, 10)), jnp.float32)
    left, right = (jnp.asarray(a, jnp.float32) for a in (left, right))

    def loss(w):
        return jnp.mean(jnp.square(scale * (left @ w @ right - 1)))

    def step(carry, rate):
        w, state = carry
        updates, state = rule.update(jax.grad(loss)(w), state)
        return (w - rate * updates, state), None

    rates = 0.1 * jnp.linspace(1, 0, steps)
    w = jnp.zeros((12, 10))
    return float(
        loss(jax.jit(jax.lax.scan, static_argnums=0)(step, (w, rule.init(w)), rates)[0][0])
    )


def test_soap_finds_the_axes_that_adam_does_not():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        losses = loss_after(soap(), 200), loss_after(optax.scale_by_adam(), 200)
    assert losses[0] < 0.5 * losses[1], losses


def test_updates_keep_shapes_and_have_the_size_of_adams():
    params = {"conv": jnp.ones((3, 3, 2, 5)), "dense": MATRIX, "tall": MATRIX.T}
    rule = soap()
    updates, state = jax.jit(rule.update)(params, rule.init(params))
    assert jax.tree.map(jnp.shape, updates) == jax.tree.map(jnp.shape, params)
    assert all(0 < float(jnp.abs(u).max()) <= 1.01 for u in jax.tree.leaves(updates))
    assert int(state.count) == 1


def test_a_long_side_keeps_its_own_basis():
    state = soap().init({"wide": jnp.ones((4, 1100))})
    left, right = state.bases["4 x 1100"]
    assert left.vectors.shape == (1, 4, 4)
    assert right is None


def test_what_is_no_matrix_is_left_to_adam():
    params = {"kernel": MATRIX, "bias": jnp.ones(5)}
    rule = soap_or_adam(lambda params: jax.tree.map(lambda a: a.ndim == 2, params))
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        updates, _ = jax.jit(rule.update)(params, rule.init(params))
    assert updates["bias"] == pytest.approx(np.ones(5), rel=1e-3)
