"""Muon over all matrices of one shape at a time.

The updates are those of `optax.contrib.muon`. Its Newton-Schulz iterations take a small product for
each matrix; here matrices of the same shape are stacked and share one batched product, which on an
accelerator takes a fraction of the time.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from optax.contrib import MuonDimensionNumbers, scale_by_muon

# Root mean square of an update with a learning rate of one, about that of Adam (Liu et al. 2025,
# arXiv 2502.16982).
_RMS = 0.2


def muon_or_adam(is_matrix: Callable[[dict], dict]) -> optax.GradientTransformation:
    """Return the updates of Muon for matrices and of Adam for the rest, times a rate of one.

    is_matrix: pytree of parameters -> pytree of bool. A leaf [...,O] is the matrix [product of the
    other axes, O].
    """

    def labels(params: dict) -> dict:
        return jax.tree.map(lambda yes: "muon" if yes else "adam", is_matrix(params))

    rules = {"muon": _stacked_muon(), "adam": optax.scale_by_adam(nesterov=True)}
    return optax.partition(rules, labels)


def _stacked_muon() -> optax.GradientTransformation:
    def axes(stacked: dict) -> dict:
        return jax.tree.map(lambda _: MuonDimensionNumbers(1, 2), stacked)

    rule = scale_by_muon(weight_dimension_numbers=axes)

    def update(updates: Any, state: Any, params: Any = None) -> tuple:
        del params
        stacked, state = rule.update(stack_matrices(updates), state)
        scaled = {shape: a * (_RMS * a.shape[2] ** 0.5) for shape, a in stacked.items()}
        return unstack_matrices(scaled, updates), state

    return optax.GradientTransformation(lambda params: rule.init(stack_matrices(params)), update)


def stack_matrices(tree: Any) -> dict[str, Array]:
    """Return the leaves [...,O] as matrices, stacked by shape: {"m x n": [count,m,n]}, m <= n.

    Matrices with more rows than columns are transposed.
    """
    found = defaultdict(list)
    for leaf in jax.tree.leaves(tree):
        matrix = leaf.reshape(-1, leaf.shape[-1])
        found[_shape_of(leaf)].append(matrix.T if _is_tall(leaf) else matrix)
    return {shape: jnp.stack(matrices) for shape, matrices in found.items()}


def unstack_matrices(stacked: dict[str, Array], like: Any) -> Any:
    """Return the inverse of `stack_matrices`: a tree of the structure and shapes of `like`."""
    matrices = {shape: iter(array) for shape, array in stacked.items()}

    def leaf_of(leaf: Array) -> Array:
        matrix = next(matrices[_shape_of(leaf)])
        return (matrix.T if _is_tall(leaf) else matrix).reshape(leaf.shape)

    return jax.tree.map(leaf_of, like)


def _is_tall(leaf: Array) -> bool:
    return leaf.size > leaf.shape[-1] ** 2


def _shape_of(leaf: Array) -> str:
    columns = leaf.shape[-1]
    rows = leaf.size // columns
    return f"{min(rows, columns)} x {max(rows, columns)}"
