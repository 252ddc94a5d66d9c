"""Multi-objective optimisation: one update out of K gradients.

Gradients are stacked: a pytree whose leaves are [K, ...], one gradient per objective on axis 0. An
aggregator maps their Gram matrix [K,K] to non-negative weights [K]; the update is sum_k w_k g_k.
Only the weights of `min_norm_weights`, `frank_wolfe_weights`, `mean_weights` and `random_weights`
sum to one; `normalised` makes any do so.

[1] Désidéri 2012, Multiple-gradient descent algorithm, C. R. Math. 350
[2] Sener & Koltun 2018, https://arxiv.org/abs/1810.04650
[3] Kamisli et al. 2024, https://arxiv.org/abs/2402.18930
[4] Quinton & Rey 2024, https://arxiv.org/abs/2406.16232
[5] Liu et al. 2021, https://arxiv.org/abs/2110.14048
[6] Lawson & Hanson 1974, Solving Least Squares Problems
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

Aggregator = Callable[[Array], Array]  # gram [K,K] -> weights [K]

_EXACT = jax.lax.Precision.HIGHEST  # bfloat16 or TF32 products would undo the cosines


def _objectives(stacked: Any) -> int:
    """K, the size of axis 0 of every leaf."""
    sizes = sorted({leaf.shape[0] if leaf.ndim else 0 for leaf in jax.tree.leaves(stacked)})
    if len(sizes) != 1 or sizes[0] == 0:
        raise ValueError(f"every leaf must be [K, ...] with one K >= 1; sizes of axis 0: {sizes}")
    return sizes[0]


def gram(stacked: Any) -> Array:
    """Inner products G_jk = <g_j, g_k>, summed over leaves [K, ...] in float32 or wider: [K,K]."""
    k = _objectives(stacked)
    total = jnp.zeros((k, k), jnp.float32)
    for leaf in jax.tree.leaves(stacked):
        flat = leaf.reshape(k, -1).astype(jnp.promote_types(leaf.dtype, jnp.float32))
        total = total + jnp.matmul(flat, flat.T, precision=_EXACT)
    return total


def combine(stacked: Any, weights: Array) -> Any:
    """sum_k w_k g_k: leaves [K, ...] and weights [K] -> leaves [...] of the same dtypes."""

    def one(leaf: Array) -> Array:
        wide = leaf.astype(jnp.promote_types(leaf.dtype, weights.dtype))
        total = jnp.tensordot(weights.astype(wide.dtype), wide, axes=1, precision=_EXACT)
        return total.astype(leaf.dtype)

    return jax.tree.map(one, stacked)


def normalised(weights: Array) -> Array:
    """w / sum(w) of weights [K] >= 0; equal weights if all are zero."""
    total = jnp.sum(weights)
    share = weights / jnp.where(total > 0, total, 1)
    return jnp.where(total > 0, share, 1 / weights.size)


# ---------------------------------------------------------------- the one quadratic program


def _unit_diagonal(g: Array) -> Array:
    """G over its largest diagonal entry, which leaves every weight as it is; zero stays zero."""
    largest = jnp.max(jnp.diagonal(g))
    return g / jnp.where(largest > 0, largest, 1)


def _cosines(g: Array) -> tuple[Array, Array]:
    """Cosines [K,K] between gradients, and norms [K] over the largest; both zero for a zero one."""
    g = _unit_diagonal(g)
    squares = jnp.diagonal(g)
    limits = jnp.finfo(g.dtype)
    # below this bound products of two norms would be flushed to zero
    norms = jnp.where(squares > limits.tiny / limits.eps, jnp.sqrt(jnp.abs(squares)), 0)
    inverse = jnp.where(norms > 0, 1 / jnp.where(norms > 0, norms, 1), 0)
    return jnp.clip(g * inverse[:, None] * inverse, -1, 1), norms


def _solve(a: Array, b: Array) -> Array:
    """x of a x = b for a positive definite a [K,K]: elimination, then back-substitution.

    No Gauss-Jordan: its residual grows with the condition of a. A pivot lost to rounding is held
    at rounding's size.
    """
    k = jnp.arange(b.size)
    least = jnp.finfo(b.dtype).eps * jnp.diagonal(a)

    def eliminate(i: Array, table: Array) -> Array:
        row = table[i] / jnp.maximum(table[i, i], least[i])
        return (table - jnp.where(k > i, table[:, i], 0)[:, None] * row).at[i].set(row)

    def substitute(i: Array, x: Array) -> Array:
        i = b.size - 1 - i
        return x.at[i].set(x[i] - jnp.sum(jnp.where(k > i, table[i, :-1] * x, 0)))

    table = jax.lax.fori_loop(0, b.size, eliminate, jnp.concatenate([a, b[:, None]], axis=1))
    return jax.lax.fori_loop(0, b.size, substitute, table[:, -1])


class _Search(NamedTuple):
    x: Array  # [K] >= 0, zero unless free
    free: Array  # [K] bool
    steps: Array  # [] int32
    done: Array  # [] bool


def _toward(x: Array, target: Array) -> Array:
    """From x >= 0 to the target, or as far as the first that would turn negative, then 0."""
    falling = (target < 0) | ((x > 0) & (target == 0))
    share = jnp.where(falling, x / jnp.where(falling, x - target, 1), 1)
    step = jnp.min(share)
    return jnp.where(falling & (share <= step), 0, jnp.maximum(x + step * (target - x), 0))


def _nonnegative_minimum(q: Array, b: Array) -> Array:
    """argmin over x >= 0 of x^T q x / 2 - b^T x, with q [K,K] semi-definite and b [K] in its range.

    The active-set method of [6], Ch. 23, on the normal equations: free the unknown of steepest
    descent, solve for all free ones, fix those that would turn negative. Each pass lowers the
    objective, so it ends after finitely many, about one per positive unknown. The diagonal of q
    should be near 1 (or 0) for slopes to compare. A ridge of the size of q's own rounding keeps
    q definite: without it the minimiser may run off where rounding has made it indefinite.
    """
    k, eps = b.size, jnp.finfo(b.dtype).eps
    identity = jnp.eye(k, dtype=b.dtype)
    q = q + k * eps * identity

    def step(s: _Search) -> _Search:
        both = s.free[:, None] & s.free
        x = _toward(s.x, _solve(jnp.where(both, q, identity), jnp.where(s.free, b, 0)))
        fixed = s.free & (x == 0)
        # a newcomer that is turned back was called by rounding: so is any less steep one
        rebuffed = jnp.any(fixed & (s.x == 0))
        slope = b - jnp.matmul(q, x, precision=_EXACT)
        noise = 4 * eps * (jnp.abs(b) + jnp.matmul(jnp.abs(q), x, precision=_EXACT))
        slope = jnp.where(~s.free & (slope > noise) & ~jnp.any(fixed), slope, 0)
        enter = (jnp.arange(k) == jnp.argmax(slope)) & (slope > 0)
        done = rebuffed | ~(jnp.any(fixed) | jnp.any(enter))
        return _Search(x, (s.free & ~fixed) | enter, s.steps + 1, done)

    start = _Search(jnp.zeros_like(b), jnp.zeros(k, bool), jnp.int32(0), jnp.array(False))
    return jax.lax.while_loop(lambda s: ~s.done & (s.steps < 10 * k), step, start).x


# ---------------------------------------------------------------- the multiple-gradient descent


def min_norm_weights(gram: Array) -> Array:
    """MGDA: argmin of w^T G w, w >= 0, sum w = 1. [K,K] -> [K]. [1]; [2], Eq. 3; [3], Sec. 3.

    Exact, by an active set. Let C be the cosines and d_k the least norm over ||g_k||: then
    w = d u / sum(d u) with u = argmin over u >= 0 of u^T (C + d d^T) u / 2 - d^T u, which has the
    same conditions of optimality, no sum to keep, and a diagonal near 1 however norms differ. Of
    several minimisers, as with equal gradients, it gives one; zero gradients share all the weight.
    """
    cosines, norms = _cosines(gram)
    inverse = jnp.min(norms) / jnp.where(norms > 0, norms, 1)
    u = _nonnegative_minimum(cosines + inverse[:, None] * inverse, inverse)
    zero = norms == 0
    return normalised(jnp.where(jnp.any(zero), zero.astype(u.dtype), inverse * u))


def frank_wolfe_weights(gram: Array, *, iterations: int = 250) -> Array:
    """MGDA by conditional gradients with exact line search: [2], Alg. 2; [3], Sec. 3.

    [K,K] -> [K], on the simplex; w^T G w within 16 max ||g_k||^2 / iterations of the least.
    """
    g = _unit_diagonal(gram)

    def step(_: int, w: Array) -> Array:
        products = jnp.matmul(g, w, precision=_EXACT)
        corner = jnp.arange(w.size) == jnp.argmin(products)
        gap = jnp.vdot(w, products, precision=_EXACT) - jnp.min(products)
        curvature = gap - jnp.min(products) + jnp.vdot(corner, jnp.diagonal(g))
        share = jnp.where(curvature > gap, gap / jnp.where(curvature > gap, curvature, 1), 1)
        return w + jnp.where(gap > 0, share, 0) * (corner - w)

    return jax.lax.fori_loop(0, iterations, step, mean_weights(g))


# ---------------------------------------------------------------- its rivals


def mean_weights(gram: Array) -> Array:
    """1/K each: [K,K] -> [K]."""
    return jnp.full(gram.shape[0], 1 / gram.shape[0], gram.dtype)


def random_weights(gram: Array, *, key: Array) -> Array:
    """All on one objective, drawn uniformly: [K,K] -> [K] one-hot. A new key for each step."""
    k = gram.shape[0]
    return jax.nn.one_hot(jax.random.randint(key, (), 0, k), k, dtype=gram.dtype)


def upgrad_weights(gram: Array) -> Array:
    """UPGrad: the mean of the projections on the dual cone. [K,K] -> [K]. [4], Eq. 3.

    The projection of g_k has the weights argmin of w^T G w, w >= e_k (Prop. 1), so G w >= 0: no
    objective ascends. Weights sum to one or more. Solved for w - e_k >= 0 between unit gradients.
    """
    cosines, norms = _cosines(gram)
    extra = jax.vmap(_nonnegative_minimum, (None, 0))(cosines, -cosines)
    back = jnp.where(norms > 0, 1 / jnp.where(norms > 0, norms, 1), 0)
    return jnp.mean(jnp.eye(norms.size, dtype=norms.dtype) + norms[:, None] * extra * back, axis=0)


def cagrad_weights(gram: Array, *, c: float = 0.5) -> Array:
    """CAGrad: the mean moved by c of its norm for the worst-off. [K,K] -> [K]. [5], Alg. 1.

    The update g_0 + c ||g_0|| g_w / ||g_w||, with c in [0, 1), where w minimises over the simplex
    <g_w, g_0> + c ||g_0|| ||g_w||. Weights sum to one or more; those of the mean if g_w vanishes.

    As ||g_w|| is the least (||g_w||^2 / t + t) / 2 over t > 0, w at a fixed t is that of the least
    ||g_w + t g_0 / (c ||g_0||)||, a min-norm problem; t = ||g_w|| is found by bisection.
    """
    g = _unit_diagonal(gram)
    with_mean = jnp.mean(g, axis=1)  # <g_k, g_0>
    radius = c * _length(g, mean_weights(g))

    def closest(t: Array) -> Array:
        shift = t / jnp.where(radius > 0, radius, 1)
        lines = shift * (with_mean[:, None] + with_mean)
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
    """||g_w|| for weights w [K] >= 0; zero where cancellation has left only rounding."""
    square = jnp.vdot(w, jnp.matmul(g, w, precision=_EXACT), precision=_EXACT)
    terms = jnp.vdot(w, jnp.matmul(jnp.abs(g), w, precision=_EXACT), precision=_EXACT)
    return jnp.where(square > 4 * jnp.finfo(g.dtype).eps * terms, jnp.sqrt(jnp.abs(square)), 0)


# ---------------------------------------------------------------- aggregators from aggregators


def rescaled(aggregator: Aggregator, scale: Array) -> Aggregator:
    """The aggregator of objectives multiplied by scale [K]; weights are of the unscaled ones."""

    def weights(gram: Array) -> Array:
        return scale * aggregator(gram * scale[:, None] * scale)

    return weights


def gradient_normalised(aggregator: Aggregator) -> Aggregator:
    """The aggregator of unit gradients g_k / ||g_k||; a zero gradient stays as it is."""

    def weights(gram: Array) -> Array:
        squares = jnp.diagonal(gram)
        scale = jnp.where(squares > 0, jax.lax.rsqrt(jnp.where(squares > 0, squares, 1)), 1)
        return rescaled(aggregator, scale)(gram)

    return weights


def with_floor(aggregator: Aggregator, floor: float) -> Aggregator:
    """The aggregator's weights, mixed so that each is at least `floor` in [0, 1] times the mean."""

    def weights(gram: Array) -> Array:
        w = aggregator(gram)
        return (1 - floor) * w + floor * jnp.mean(w)

    return weights


# ---------------------------------------------------------------- the link of optax


def aggregate(aggregator: Aggregator) -> optax.GradientTransformation:
    """Stacked gradients [K, ...] in, their weighted sum [...] out; no state.

    Unlike other transformations it takes updates with an axis that the parameters lack, so it
    must come first in a chain. An aggregator that needs a key for each step is built in the step,
    where `aggregate(partial(random_weights, key=key)).update` costs nothing.
    """

    def update(updates: Any, state: optax.EmptyState, params: Any = None) -> tuple:
        del params
        return combine(updates, aggregator(gram(updates))), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
