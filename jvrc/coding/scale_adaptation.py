"""Scale adaptation: a stream may shift the scale indices of each channel of y to fit its image.

A model's scales sigma / Delta are right on average over photographs. In one image a channel may
hold more or less than they say; in a grey one, the channels of colour hold nothing. So a file may
give for each channel an integer that is added to the scale indices when the CDF tables of its
symbols are chosen: M symbols behind those of z. Nothing else depends on it, least of all y^, so an
encoder chooses it last. What it saves: tests/benchmarks/bench_scales.py.
"""

from typing import TypeVar

import jax
import numpy as np

from jvrc.coding import tables

T = TypeVar("T", np.ndarray, jax.Array)

REACH = 12  # largest shift that the table holds; any other is escaped
# Frequencies of a shift of 0, then of 1 … REACH, either sign: in nine of ten channels it is 0.
_FREQUENCIES = (58979, 661, 534, 433, 352, 287, 235, 193, 160, 134, 112, 95, 82)

# Classes of magnitudes that are counted as one: all to 16, then eight an octave.
_SIZES = np.unique(
    np.concatenate([np.arange(16), np.rint(2.0 ** np.arange(4, 12, 1 / 8))]).astype(int)
)
_SIZE_OF = np.searchsorted(_SIZES, np.arange(_SIZES[-1] + 1), side="right").astype(np.uint8) - 1
_SAMPLES = 2**20  # counted at a time, to bound memory


def table() -> tables.CdfTables:
    """Return the one table under which shifts are coded (FORMAT.md, section 6)."""
    first, *others = _FREQUENCIES
    freq = np.array([*reversed(others), first, *others, 1], np.uint16)
    start = np.array([0, len(freq)], np.int32)
    return tables.CdfTables(freq, start, np.array([-REACH], np.int32))


def apply(index: T, index_shift: T, count: int) -> T:
    """Return the tables, uint8 [...,M], of `count`, for scale indices uint8 [...,M].

    FORMAT.md, section 6. index_shift: int32 [M] or [...,M], any values. Arrays of NumPy or JAX.
    """
    bounded = index_shift.clip(-count, count).astype(np.int16)
    return (index.astype(np.int16) + bounded).clip(0, count - 1).astype(np.uint8)


def side_bits(index_shift: np.ndarray) -> float:
    """Return the bits of shifts, int32 [M]; of zeros none, for they are left out."""
    if not index_shift.any():
        return 0.0
    stored = 16 - np.log2(table().freq[:-1])
    return float(stored[index_shift.clip(-REACH, REACH) + REACH].sum())


def choose(
    values: np.ndarray,
    index: np.ndarray,
    symbol_tables: tables.CdfTables,
    *,
    samples: int = _SAMPLES,
) -> np.ndarray:
    """Return the shifts, int32 [M], that save most; all zero if they save less than they cost.

    values: int [h,w,M]. index: their scale indices, uint8 [h,w,M]. samples: how many are counted at
    a time; the result does not depend on it.
    """
    bits = _bits(values, index, symbol_tables, samples)
    stored = bits + 16 - np.log2(table().freq[:-1])
    if stored.min(1).sum() < bits[:, REACH].sum():
        return (stored.argmin(1) - REACH).astype(np.int32)
    return np.zeros(len(bits), np.int32)


def _bits(
    values: np.ndarray, index: np.ndarray, symbol_tables: tables.CdfTables, samples: int
) -> np.ndarray:
    """Return the bits of each channel under each shift: [M,2 * REACH + 1]."""
    m, count = values.shape[-1], len(symbol_tables.low)
    magnitude = max(int(values.max()), -int(values.min()))
    largest = _SIZES[_SIZE_OF[min(magnitude, _SIZES[-1])]]
    sizes = int(_SIZE_OF[largest]) + 1
    seen = np.zeros(m * count * sizes, np.int64)
    rows = max(1, samples // values[0].size)
    for begin in range(0, len(values), rows):
        part = slice(begin, begin + rows)
        size = _SIZE_OF[np.minimum(np.abs(values[part]), largest)]
        kind = (np.arange(m, dtype=np.int32) * count + index[part]) * np.int32(sizes) + size
        seen += np.bincount(kind.ravel(), minlength=len(seen))
    signs = [tables.bit_costs(symbol_tables, sign * _SIZES[:sizes]) for sign in (1, -1)]
    shifted = np.arange(count)[:, None] + np.arange(-REACH, REACH + 1)
    costs = np.mean(signs, axis=0)[np.clip(shifted, 0, count - 1)]
    costs = costs.swapaxes(1, 2).reshape(count * sizes, -1)
    # Few kinds occur, so a sum over these, not a product with all.
    occur = np.flatnonzero(seen)
    channel, kind = np.divmod(occur, count * sizes)
    return np.add.reduceat(seen[occur, None] * costs[kind], np.searchsorted(channel, range(m)))
