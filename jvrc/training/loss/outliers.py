"""Outlier protection: batches and crops that blow up can't move the model.

One batch in a few thousand has a gradient that is hundreds of times the usual one, at any learning
rate, and clipping its norm still takes a whole step in its direction. So:

  training steps  are skipped if the gradient's norm is not finite, or above SKIP_ABOVE times the
                  median of recent norms: parameters and optimiser stay as they are
  crops           count with the weight min(1, CROP_ABOVE * median loss / their loss)

The recent norms are a part of the training state: what is skipped is a function of the run.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

SKIP_ABOVE = 5.0  # times the median norm
CROP_ABOVE = 4.0  # times the median loss of the batch's crops
_WINDOW = 64  # norms; a lasting rise is accepted after half as many training steps
_FEWEST = 16  # norms that the median needs: before, only what is not finite is skipped


class Norms(NamedTuple):
    """The norms of recent gradients, finite ones, and what they led to."""

    recent: Array  # float32 [_WINDOW], NaN where there is none yet; a ring
    seen: Array  # int32 [], norms recorded
    skipped: Array  # int32 [], training steps skipped


def no_norms() -> Norms:
    """Return the record before the first training step."""
    return Norms(jnp.full(_WINDOW, jnp.nan, jnp.float32), jnp.int32(0), jnp.int32(0))


def record(norms: Norms, norm: Array) -> tuple[Array, Norms]:
    """Return (True if the training step of a gradient's norm [] may be taken, the next record).

    Outliers are recorded too, so that a lasting rise of the norms becomes the new median.
    """
    finite = jnp.isfinite(norm)
    limit = jnp.where(norms.seen < _FEWEST, jnp.inf, SKIP_ABOVE * jnp.nanmedian(norms.recent))
    good = finite & (norm <= limit)
    place = norms.seen % _WINDOW
    recent = norms.recent.at[place].set(jnp.where(finite, norm, norms.recent[place]))
    seen, skipped = (jnp.asarray(yes, jnp.int32) for yes in (finite, ~good))
    return good, Norms(recent, norms.seen + seen, norms.skipped + skipped)


def crop_weights(losses: Array, everyone: Array | None = None) -> Array:
    """Return the weights of crops by their losses [B], constants: 1 but for outliers.

    Losses that are not finite get 0. everyone: the losses that the median is taken of, if not B.
    """
    losses = jax.lax.stop_gradient(losses)
    median = jnp.nanmedian(losses if everyone is None else jax.lax.stop_gradient(everyone))
    weights = jnp.minimum(1.0, CROP_ABOVE * median / losses)
    return jnp.where(jnp.isfinite(losses) & jnp.isfinite(weights), weights, 0.0)


def weighted_mean(weights: Array, values: Array) -> Array:
    """Return the mean [] of weights * values [B]; NaN if all weights are 0.

    Values of weight 0 count as 0, even if they are not finite.
    """
    mean = jnp.mean(jnp.where(weights > 0, weights * values, 0.0))
    return jnp.where(jnp.any(weights > 0), mean, jnp.nan)
