"""The order in which mbt2018 codes the positions of y, and where each stands in the wavefront loop.

A position sees two samples to its left and five in each of the two rows above, up to two to the
right (the masked 5x5 kernel of Minnen et al. 2018). So all positions with equal column + 3 * row, a
*wavefront*, are independent of each other. What a wavefront sees lies in the eight before it: the
sample c columns to the right, d rows above, was coded 3 d - c wavefronts ago.
"""

from typing import NamedTuple

import numpy as np

LOOK_BACK = 8  # wavefronts that a position sees
_LAG = 3  # wavefronts from one row to the next
_GUARD = 2  # rows of zeros above y


def order(height: int, width: int) -> np.ndarray:
    """Return positions row * width + column in the order of coding: int [height*width]."""
    row, column = np.divmod(np.arange(height * width), width)
    return np.argsort(column + _LAG * row, kind="stable")  # in a wavefront, the upper rows first


class Plan(NamedTuple):
    """Where positions stand in the loop, T wavefronts of P slots.

    Position `order[i]` is coded in wavefront `wavefront[i]`, slot `slot[i]`.
    """

    order: np.ndarray  # int [h*w], as `order` gives it
    wavefront: np.ndarray  # likewise
    slot: np.ndarray  # likewise
    rows: np.ndarray  # int32 [T,P]: row of the slot in the history of decoded latents
    used: np.ndarray  # int32 [T]: how many slots are
    height: int  # rows of the history


def plan(height: int, width: int) -> Plan:
    """Return the plan of latents of height x width positions."""
    positions = order(height, width)
    row, column = np.divmod(positions, width)
    front = column + _LAG * row
    used = np.bincount(front)
    slot = np.arange(len(front)) - (np.cumsum(used) - used)[front]
    rows_kept = power_of_two(height + _GUARD + 1)
    # slots that are not used write zeros into the last row
    rows = np.full((len(used), power_of_two(int(used.max()))), rows_kept - 1)
    rows[front, slot] = _GUARD + row
    return Plan(positions, front, slot, rows.astype(np.int32), used.astype(np.int32), rows_kept)


def power_of_two(n: int) -> int:
    """Return the least power of two >= n."""
    return 1 << max(0, n - 1).bit_length()


def arranged(samples: np.ndarray, plan: Plan, part: slice, shape: tuple[int, int]) -> np.ndarray:
    """Return the samples of wavefronts `part` by slot: [h,w,C] -> [*shape,C]."""
    flat = samples.reshape(len(plan.order), samples.shape[2])
    out = np.zeros((*shape, flat.shape[1]), flat.dtype)
    low, high = np.searchsorted(plan.wavefront, (part.start, part.stop))
    out[plan.wavefront[low:high] - part.start, plan.slot[low:high]] = flat[plan.order[low:high]]
    return out


def to_raster(values: np.ndarray, positions: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return [h,w,C] of values [h*w,C] that stand in the order of coding."""
    out = np.empty_like(values)
    out[positions] = values
    return out.reshape(*shape, -1)
