"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner, over stacked matrices.

Vyas et al. 2024 (arXiv 2409.11321). For a matrix G [m,n] of gradients, running means of G G^T and
G^T G have eigenvectors Q_L [m,m] and Q_R [n,n]; Adam works on Q_L^T G Q_R. The eigenvectors follow
by one step of power iteration and a QR decomposition every few updates. As in `muon`,
matrices of the same shape are stacked. A side longer than _LONGEST keeps its own basis.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jvrc.training.update.muon import stack_matrices, unstack_matrices

_LONGEST = 1024  # side of a matrix
_EVERY = 10  # updates between two of the eigenvectors
_B1, _B2, _B_BASIS = 0.95, 0.95, 0.95
_EPS = 1e-8


class Basis(NamedTuple):
    """The basis of one side [k,s,s] of k stacked matrices; None where the side is too long."""

    moment: Array  # running mean of G G^T, or of G^T G
    vectors: Array  # its eigenvectors, approximately


class SoapState(NamedTuple):
    """State of `soap`; dicts by shape, as `stack_matrices` has them."""

    count: Array  # int32 []
    mean: dict[str, Array]  # of gradients [k,m,n]
    square: dict[str, Array]  # mean of squared gradients, in the eigenbasis
    bases: dict[str, tuple[Basis | None, Basis | None]]


def soap_or_adam(is_matrix: Callable[[dict], dict]) -> optax.GradientTransformation:
    """Return the updates of SOAP for matrices and of Adam for the rest, times a rate of one.

    is_matrix: pytree of parameters -> pytree of bool. A leaf [...,O] is the matrix [product of the
    other axes, O].
    """

    def labels(params: dict) -> dict:
        return jax.tree.map(lambda yes: "soap" if yes else "adam", is_matrix(params))

    return optax.partition({"soap": soap(), "adam": optax.scale_by_adam()}, labels)


def soap() -> optax.GradientTransformation:
    """Return SOAP for a tree of matrices; updates have the size of Adam's."""

    def init(params: Any) -> SoapState:
        stacked = jax.tree.map(jnp.zeros_like, stack_matrices(params))
        bases = {name: (_no_basis(a, 1), _no_basis(a, 2)) for name, a in stacked.items()}
        return SoapState(jnp.int32(0), stacked, stacked, bases)

    def update(updates: Any, state: SoapState, params: Any = None) -> tuple[Any, SoapState]:
        del params
        stacked, count = stack_matrices(updates), state.count + 1
        results = {
            name: _updated(g, count, state.mean[name], state.square[name], state.bases[name])
            for name, g in stacked.items()
        }
        moved, mean, square, bases = (
            {name: result[i] for name, result in results.items()} for i in range(4)
        )
        return unstack_matrices(moved, updates), SoapState(count, mean, square, bases)

    return optax.GradientTransformation(init, update)


def _no_basis(stacked: Array, axis: int) -> Basis | None:
    count, side = stacked.shape[0], stacked.shape[axis]
    if side > _LONGEST:
        return None
    moment = jnp.zeros((count, side, side), stacked.dtype)
    return Basis(moment, moment + jnp.eye(side, dtype=stacked.dtype)[None])


def _updated(g: Array, count: Array, mean: Array, square: Array, bases: tuple) -> tuple:
    """Return (updates, mean, square, bases) of stacked gradients g [k,m,n]."""
    mean = _B1 * mean + (1 - _B1) * g
    square = _B2 * square + (1 - _B2) * jnp.square(_turned(g, bases, inverse=False))
    steps = count.astype(jnp.float32)
    first = _turned(mean, bases, inverse=False) / (1 - _B1**steps)
    adam = first / (jnp.sqrt(square / (1 - _B2**steps)) + _EPS)
    followed = tuple(
        _followed(basis, g @ g.mT if side == 0 else g.mT @ g, count)
        for side, basis in enumerate(bases)
    )
    return _turned(adam, bases, inverse=True), mean, square, followed


def _turned(g: Array, bases: tuple[Basis | None, Basis | None], *, inverse: bool) -> Array:
    """Return g in the eigenbasis, Q_L^T g Q_R, or back from it."""
    left, right = bases
    if left is not None:
        g = (left.vectors if inverse else left.vectors.mT) @ g
    if right is not None:
        g = g @ (right.vectors.mT if inverse else right.vectors)
    return g


def _followed(basis: Basis | None, product: Array, count: Array) -> Basis | None:
    """Return the basis after a gradient; its vectors change at the first and every tenth update."""
    if basis is None:
        return None
    moment = _B_BASIS * basis.moment + (1 - _B_BASIS) * product

    def follow(vectors: Array) -> Array:
        return jnp.linalg.qr(moment @ vectors + _EPS * vectors)[0]

    due = (count == 1) | (count % _EVERY == 0)
    return Basis(moment, jax.lax.cond(due, follow, lambda vectors: vectors, basis.vectors))
