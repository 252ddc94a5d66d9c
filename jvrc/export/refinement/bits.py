"""What symbols cost under the tables of a model, and what that says of their scales."""

import jax.numpy as jnp
import numpy as np
from jax import Array

from jvrc.coding import tables
from jvrc.integer.hyper_synthesis import INDEX_COUNT
from jvrc.integer.scale_refinement import MAGNITUDE_MAX, SCORE_MAX

LARGEST = 60  # larger |q| cost as many bits as this one
SCORE_UNIT = 1 / 32  # bits by scale index
_STEP = 2  # scale indices to either side, over which slopes are taken


def costs_of(y_tables: tables.CdfTables) -> np.ndarray:
    """Return the bits of |q| under each table, the mean of both signs: float32 [90,LARGEST+1]."""
    magnitudes = np.arange(LARGEST + 1)
    both = [tables.bit_costs(y_tables, sign * magnitudes) for sign in (1, -1)]
    return np.mean(both, axis=0).astype(np.float32)


def scores_of(cost: np.ndarray) -> np.ndarray:
    """Return by how many SCORE_UNITs a scale index more lowers the bits of |q|: int8 [90,16]."""
    rows = np.arange(INDEX_COUNT)
    low, high = np.maximum(rows - _STEP, 0), np.minimum(rows + _STEP, INDEX_COUNT - 1)
    slope = (cost[high] - cost[low]) / (high - low)[:, None]
    score = np.rint(-slope[:, : MAGNITUDE_MAX + 1] / SCORE_UNIT)
    return np.clip(score, -SCORE_MAX, SCORE_MAX).astype(np.int8)


def bits_between(cost: Array, index: Array, magnitude: Array) -> Array:
    """Return the bits of |q| at scale indices that are no integers: linear between two tables.

    cost: see `costs_of`. index: float, of any shape. magnitude: int, likewise.
    """
    index = jnp.clip(index, 0.0, INDEX_COUNT - 1.001)
    below = jnp.floor(index).astype(jnp.int32)
    part = index - below.astype(index.dtype)
    return cost[below, magnitude] * (1 - part) + cost[below + 1, magnitude] * part
