"""Claims about Muon over stacked matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax.contrib import MuonDimensionNumbers, muon

from jvrc.training.update.muon import muon_or_adam, stack_matrices, unstack_matrices

SHAPES = {
    "wide": (6, 20),
    "tall": (20, 6),
    "conv": (3, 3, 4, 5),
    "square": (7, 7),
    "again": {"wide": (6, 20), "conv": (6, 6, 1, 5)},
    "bias": (20,),
    "depthwise": (3, 3, 7),
}


def tree(seed):
    """Random leaves of SHAPES."""
    is_shape = {"is_leaf": lambda s: isinstance(s, tuple)}
    count = len(jax.tree.leaves(SHAPES, **is_shape))
    keys = iter(jax.random.split(jax.random.key(seed), count))
    return jax.tree.map(lambda s: jax.random.normal(next(keys), s), SHAPES, **is_shape)


def is_matrix(params):
    return jax.tree.map(lambda a: a.ndim in (2, 4), params)


def dimension_numbers(params):
    def numbers(a):
        axes = MuonDimensionNumbers(tuple(range(a.ndim - 1)), a.ndim - 1)
        return axes if a.ndim in (2, 4) else None

    return jax.tree.map(numbers, params)


def test_updates_are_those_of_optax():
    theirs = muon(1.0, consistent_rms=0.2, muon_weight_dimension_numbers=dimension_numbers)
    rules = (optax.chain(muon_or_adam(is_matrix), optax.scale(-1.0)), theirs)
    params = tree(0)
    states = [rule.init(params) for rule in rules]
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for step in range(1, 4):
            grads = tree(step)
            updates, states = zip(
                *(r.update(grads, s, params) for r, s in zip(rules, states, strict=True)),
                strict=True,
            )
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *updates)
    assert all(np.any(a) for a in jax.tree.leaves(updates[0]))


def test_matrices_of_one_shape_are_stacked_whichever_side_is_longer():
    matrices = {k: v for k, v in tree(0).items() if k not in ("bias", "depthwise")}
    stacked = stack_matrices(matrices)
    assert {k: a.shape for k, a in stacked.items()} == {
        "6 x 20": (3, 6, 20),
        "5 x 36": (2, 5, 36),
        "7 x 7": (1, 7, 7),
    }
    jax.tree.map(np.testing.assert_array_equal, unstack_matrices(stacked, matrices), matrices)
    assert jnp.any(stacked["6 x 20"][0] != stacked["6 x 20"][1])
