"""Multi-objective optimisation: one update out of K gradients.

Gradients are stacked: a pytree whose leaves are [K, ...], one gradient per objective on axis 0. A
weighting maps their Gram matrix [K,K] to non-negative weights [K]; the update is sum_k w_k g_k.
Only the weights of `min_norm_weights`, `frank_wolfe_weights`, `mean_weights` and `random_weights`
sum to one; `normalised` makes any do so.

[1] Désidéri 2012, Multiple-gradient descent algorithm, C. R. Math. 350
[2] Sener & Koltun 2018, https://arxiv.org/abs/1810.04650
[3] Kamisli et al. 2024, https://arxiv.org/abs/2402.18930
[4] Quinton & Rey 2024, https://arxiv.org/abs/2406.16232
[5] Liu et al. 2021, https://arxiv.org/abs/2110.14048
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jvrc.training.quadratic_program import (
    FULL_PRECISION,
    cosines_and_norms,
    nonnegative_minimum,
    unit_diagonal,
)

Weighting = Callable[[Array], Array]  # gram [K,K] -> weights [K]


def _objectives(stacked: Any) -> int:
    """Return K, the size of axis 0 of every leaf; ValueError if they differ."""
    sizes = sorted({leaf.shape[0] if leaf.ndim else 0 for leaf in jax.tree.leaves(stacked)})
    if len(sizes) != 1 or sizes[0] == 0:
        raise ValueError(f"every leaf must be [K, ...] with one K >= 1; sizes of axis 0: {sizes}")
    return sizes[0]


def _wide_dtype(*arrays: Array) -> jnp.dtype:
    """Return float64 if an array is of that, else float32."""
    return jnp.dtype("float64" if any(a.dtype == jnp.float64 for a in arrays) else "float32")


def gram(stacked: Any) -> Array:
    """Return the Gram matrix [K,K], G_jk = <g_j, g_k>, of stacked gradients.

    Sums run over all leaves [K, ...], in float32 or wider.
    """
    k, leaves = _objectives(stacked), jax.tree.leaves(stacked)
    total = jnp.zeros((k, k), _wide_dtype(*leaves))
    for leaf in leaves:
        flat = leaf.reshape(k, -1).astype(_wide_dtype(leaf))
        total = total + jnp.matmul(flat, flat.T, precision=FULL_PRECISION).astype(total.dtype)
    return total


def combine(stacked: Any, weights: Array) -> Any:
    """Return sum_k w_k g_k of leaves [K, ...] and weights [K]: leaves [...] of the same dtypes."""

    def one(leaf: Array) -> Array:
        wide = leaf.astype(_wide_dtype(leaf, weights))
        total = jnp.tensordot(weights.astype(wide.dtype), wide, axes=1, precision=FULL_PRECISION)
        return total.astype(leaf.dtype)

    return jax.tree.map(one, stacked)


def normalised(weights: Array) -> Array:
    """Return w / sum(w) for weights [K] >= 0; equal weights if all are zero."""
    total = jnp.sum(weights)
    share = weights / jnp.where(total > 0, total, 1)
    return jnp.where(total > 0, share, 1 / weights.size)


# ---------------------------------------------------------------- multiple-gradient descent


def min_norm_weights(gram: Array) -> Array:
    """Return the weights of MGDA: argmin of w^T G w, w >= 0, sum w = 1. [K,K] -> [K].

    [1]; [2], Eq. 3; [3], Sec. 3.

    Exact, by an active set. Let C be the cosines and d_k the least norm over ||g_k||: then
    w = d u / sum(d u) with u = argmin over u >= 0 of u^T (C + d d^T) u / 2 - d^T u, which has the
    same conditions of optimality, no sum to keep, and a diagonal near 1 however norms differ. Of
    several minimisers, as with equal gradients, it gives one; zero gradients share all the weight.
    """
    cosines, norms = cosines_and_norms(gram)
    inverse = jnp.min(norms) / jnp.where(norms > 0, norms, 1)
    u = nonnegative_minimum(cosines + inverse[:, None] * inverse[None, :], inverse)
    zero = norms == 0
    return normalised(jnp.where(jnp.any(zero), zero.astype(u.dtype), inverse * u))


def frank_wolfe_weights(gram: Array, *, iterations: int = 250) -> Array:
    """Return the weights of MGDA by conditional gradients with exact line search.

    [2], Alg. 2; [3], Sec. 3.

    [K,K] -> [K], on the simplex; w^T G w within 16 max ||g_k||^2 / iterations of the least.
    """
    g = unit_diagonal(gram)

    def step(_: int, w: Array) -> Array:
        products = jnp.matmul(g, w, precision=FULL_PRECISION)
        corner = (jnp.arange(w.size) == jnp.argmin(products)).astype(w.dtype)
        gap = jnp.vdot(w, products, precision=FULL_PRECISION) - jnp.min(products)
        curvature = gap - jnp.min(products) + jnp.vdot(corner, jnp.diagonal(g))
        share = jnp.where(curvature > gap, gap / jnp.where(curvature > gap, curvature, 1), 1)
        return w + jnp.where(gap > 0, share, 0) * (corner - w)

    return jax.lax.fori_loop(0, iterations, step, mean_weights(g))


# ---------------------------------------------------------------- other weightings


def mean_weights(gram: Array) -> Array:
    """Return equal weights 1/K: [K,K] -> [K]."""
    return jnp.full(gram.shape[0], 1 / gram.shape[0], gram.dtype)


def random_weights(gram: Array, *, key: Array) -> Array:
    """Return one-hot weights of an objective drawn uniformly: [K,K] -> [K].

    Each training step needs a new key.
    """
    k = gram.shape[0]
    return jax.nn.one_hot(jax.random.randint(key, (), 0, k), k, dtype=gram.dtype)


def upgrad_weights(gram: Array) -> Array:
    """Return the weights of UPGrad, the mean of projections on the dual cone. [K,K] -> [K].

    [4], Eq. 3.

    The projection of g_k has the weights argmin of w^T G w, w >= e_k (Prop. 1), so G w >= 0: no
    objective ascends. Weights sum to one or more. Solved for w - e_k >= 0 between unit gradients.
    """
    cosines, norms = cosines_and_norms(gram)
    extra = jax.vmap(nonnegative_minimum, (None, 0))(cosines, -cosines)
    back = jnp.where(norms > 0, 1 / jnp.where(norms > 0, norms, 1), 0)
    raised = norms[:, None] * extra * back[None, :]
    return jnp.mean(jnp.eye(norms.size, dtype=norms.dtype) + raised, axis=0)


def cagrad_weights(gram: Array, *, c: float = 0.5) -> Array:
    """Return the weights of CAGrad: the mean moved by c of its norm. [K,K] -> [K].

    [5], Alg. 1: it is moved so that the objective that improves least improves most.

    The update g_0 + c ||g_0|| g_w / ||g_w||, with c in [0, 1), where w minimises over the simplex
    <g_w, g_0> + c ||g_0|| ||g_w||. Weights sum to one or more; those of the mean if g_w vanishes.

    As ||g_w|| is the least (||g_w||^2 / t + t) / 2 over t > 0, w at a fixed t is that of the least
    ||g_w + t g_0 / (c ||g_0||)||, a min-norm problem; t = ||g_w|| is found by bisection.
    """
    g = unit_diagonal(gram)
    with_mean = jnp.mean(g, axis=1)  # <g_k, g_0>
    radius = c * _length(g, mean_weights(g))

    def closest(t: Array) -> Array:
        shift = t / jnp.where(radius > 0, radius, 1)
        lines = shift * (with_mean[:, None] + with_mean[None, :])
        return min_norm_weights(g + lines + shift**2 * jnp.mean(with_mean))

    def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        middle = (bracket[0] + bracket[1]) / 2
        longer = _length(g, closest(middle)) > middle
        return jnp.where(longer, middle, bracket[0]), jnp.where(longer, bracket[1], middle)

    bracket = jnp.zeros((), g.dtype), jnp.ones((), g.dtype)  # no gradient is longer than 1
    low, high = jax.lax.fori_loop(0, jnp.finfo(g.dtype).nmant, halve, bracket)
    w = closest((low + high) / 2)
    length = _length(g, w)
    return mean_weights(g) + jnp.where(length > 0, radius / jnp.where(length > 0, length, 1), 0) * w


def _length(g: Array, w: Array) -> Array:
    """Return ||g_w|| for weights w [K] >= 0; zero where cancellation has left only rounding."""
    square = jnp.vdot(w, jnp.matmul(g, w, precision=FULL_PRECISION), precision=FULL_PRECISION)
    terms = jnp.vdot(
        w, jnp.matmul(jnp.abs(g), w, precision=FULL_PRECISION), precision=FULL_PRECISION
    )
    return jnp.where(square > 4 * jnp.finfo(g.dtype).eps * terms, jnp.sqrt(jnp.abs(square)), 0)


# ---------------------------------------------------------------- weightings from weightings


def rescaled(weighting: Weighting, scale: Array) -> Weighting:
    """Return the weighting of objectives multiplied by scale [K]; it weighs the unscaled ones."""

    def weights(gram: Array) -> Array:
        return scale * weighting(gram * scale[:, None] * scale[None, :])

    return weights


def gradient_normalised(weighting: Weighting) -> Weighting:
    """Return the weighting of unit gradients g_k / ||g_k||; a zero gradient stays as it is."""

    def weights(gram: Array) -> Array:
        squares = jnp.diagonal(gram)
        scale = jnp.where(squares > 0, jax.lax.rsqrt(jnp.where(squares > 0, squares, 1)), 1)
        return rescaled(weighting, scale)(gram)

    return weights


def with_floor(weighting: Weighting, floor: float) -> Weighting:
    """Return a weighting whose weights are at least `floor`, in [0, 1], times their mean."""

    def weights(gram: Array) -> Array:
        w = weighting(gram)
        return (1 - floor) * w + floor * jnp.mean(w)

    return weights


# ---------------------------------------------------------------- for optax


def aggregate(weighting: Weighting) -> optax.GradientTransformation:
    """Return a transformation of stacked gradients [K, ...] to their weighted sum [...].

    Unlike other transformations it takes updates with an axis that the parameters lack, so it
    must come first in a chain. A weighting that needs a key for each step is built in the step,
    where `aggregate(partial(random_weights, key=key)).update` costs nothing.
    """

    def update(updates: Any, state: optax.EmptyState, params: Any = None) -> tuple:
        del params
        return combine(updates, weighting(gram(updates))), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
