"""A quadratic program with non-negative unknowns, which the weightings of `moo` lead to.

Gram matrices G [K,K] are of K gradients, float32 or wider.

[1] Lawson & Hanson 1974, Solving Least Squares Problems
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

FULL_PRECISION = jax.lax.Precision.HIGHEST  # bfloat16 or TF32 products would falsify cosines


def unit_diagonal(g: Array) -> Array:
    """Return G over its largest diagonal entry, which changes no weights; zero stays zero."""
    largest = jnp.max(jnp.diagonal(g))
    return g / jnp.where(largest > 0, largest, 1)


def cosines_and_norms(g: Array) -> tuple[Array, Array]:
    """Return cosines [K,K] between gradients, and norms [K] over the largest.

    Both are zero for a gradient of zero.
    """
    g = unit_diagonal(g)
    squares = jnp.diagonal(g)
    limits = jnp.finfo(g.dtype)
    # below this bound products of two norms would be flushed to zero
    norms = jnp.where(squares > limits.tiny / limits.eps, jnp.sqrt(jnp.abs(squares)), 0)
    inverse = jnp.where(norms > 0, 1 / jnp.where(norms > 0, norms, 1), 0)
    return jnp.clip(g * inverse[:, None] * inverse[None, :], -1, 1), norms


def _solve(a: Array, b: Array) -> Array:
    """Solve a x = b for a positive definite a [K,K] by elimination and back-substitution.

    Gauss-Jordan would not do: its residual grows with the condition of a. A pivot that rounding has
    made too small is replaced by one of the size of the rounding.
    """
    k = jnp.arange(b.size)
    least = jnp.finfo(b.dtype).eps * jnp.diagonal(a)

    def eliminate(i: Array, table: Array) -> Array:
        row = table[i] / jnp.maximum(table[i, i], least[i])
        return (table - jnp.where(k > i, table[:, i], 0)[:, None] * row[None, :]).at[i].set(row)

    def substitute(i: Array, x: Array) -> Array:
        i = b.size - 1 - i
        return x.at[i].set(x[i] - jnp.sum(jnp.where(k > i, table[i, :-1] * x, 0)))

    table = jax.lax.fori_loop(0, b.size, eliminate, jnp.concatenate([a, b[:, None]], axis=1))
    return jax.lax.fori_loop(0, b.size, substitute, table[:, -1])


class _Search(NamedTuple):
    """State of `nonnegative_minimum`."""

    x: Array  # [K] >= 0, zero unless free
    free: Array  # [K] bool
    steps: Array  # [] int32
    done: Array  # [] bool


def _toward(x: Array, target: Array) -> Array:
    """Move x >= 0 to the target, or until a first entry would turn negative; that one becomes 0."""
    falling = (target < 0) | ((x > 0) & (target == 0))
    share = jnp.where(falling, x / jnp.where(falling, x - target, 1), 1)
    step = jnp.min(share)
    return jnp.where(falling & (share <= step), 0, jnp.maximum(x + step * (target - x), 0))


def nonnegative_minimum(q: Array, b: Array) -> Array:
    """Return argmin over x >= 0 of x^T q x / 2 - b^T x.

    q [K,K] is semi-definite, b [K] in its range.

    The active-set method of [1], Ch. 23, on the normal equations: free the unknown of steepest
    descent, solve for all free ones, fix those that would turn negative. Each pass lowers the
    objective, so it ends after finitely many, about one per positive unknown. The diagonal of q
    should be near 1 (or 0) for slopes to compare. A ridge of the size of q's own rounding keeps
    q definite: without it the minimiser may run off where rounding has made it indefinite.
    """
    k, eps = b.size, jnp.finfo(b.dtype).eps
    identity = jnp.eye(k, dtype=b.dtype)
    q = q + k * eps * identity

    def step(s: _Search) -> _Search:
        both = s.free[:, None] & s.free[None, :]
        x = _toward(s.x, _solve(jnp.where(both, q, identity), jnp.where(s.free, b, 0)))
        fixed = s.free & (x == 0)
        # an entry that is freed and fixed at once had a slope of rounding alone; so have the others
        only_rounding = jnp.any(fixed & (s.x == 0))
        slope = b - jnp.matmul(q, x, precision=FULL_PRECISION)
        noise = 4 * eps * (jnp.abs(b) + jnp.matmul(jnp.abs(q), x, precision=FULL_PRECISION))
        slope = jnp.where(~s.free & (slope > noise) & ~jnp.any(fixed), slope, 0)
        enter = (jnp.arange(k) == jnp.argmax(slope)) & (slope > 0)
        done = only_rounding | ~(jnp.any(fixed) | jnp.any(enter))
        return _Search(x, (s.free & ~fixed) | enter, s.steps + 1, done)

    start = _Search(jnp.zeros_like(b), jnp.zeros(k, bool), jnp.int32(0), jnp.array(False))
    return jax.lax.while_loop(lambda s: ~s.done & (s.steps < 10 * k), step, start).x
