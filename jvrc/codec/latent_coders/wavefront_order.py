"""The order in which mbt2018 codes the positions of y, and where each stands in the wavefront loop.

A position sees two samples to its left and five in each of the two rows above, up to two to the
right (the masked 5x5 kernel of Minnen et al. 2018). So all positions with equal column + 3 * row, a
*wavefront*, are independent of each other. What a wavefront sees lies in the eight before it: the
sample c columns to the right, d rows above, was coded 3 d - c wavefronts ago.

A loop over wavefronts can hold several images: in each wavefront, the positions of one image follow
those of another in *slots*.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LOOK_BACK = 8  # wavefronts that a position sees
_LAG = 3  # wavefronts from one row to the next
_GUARD = 2  # rows of zeros above each image


def order(height: int, width: int) -> np.ndarray:
    """Return positions row * width + column in the order of coding: int [height*width]."""
    row, column = np.divmod(np.arange(height * width), width)
    return np.argsort(column + _LAG * row, kind="stable")  # in a wavefront, the upper rows first


class Plan(NamedTuple):
    """Where the positions of a batch stand in the loop, T wavefronts of P slots.

    Position `order[b][i]` of image b is coded in wavefront `wavefront[b][i]`, slot `slot[b][i]`.
    """

    order: list[np.ndarray]  # of each image, int [h*w], as `order` gives it
    wavefront: list[np.ndarray]  # likewise
    slot: list[np.ndarray]  # likewise
    rows: np.ndarray  # int32 [T,P]: row of the slot in the history of decoded latents
    image: np.ndarray  # int32 [T,P]: number of the slot's image
    bounds: np.ndarray  # int32 [T,B+1]: slots of image b are bounds[b] … bounds[b+1] - 1
    height: int  # rows of the history


def plan(shapes: Sequence[tuple[int, int]]) -> Plan:
    """Return the plan of a batch of images with latents of h x w positions."""
    orders = [order(h, w) for h, w in shapes]
    places = [np.divmod(o, w) for o, (_, w) in zip(orders, shapes, strict=True)]
    fronts = [column + _LAG * row for row, column in places]
    steps = max(int(f[-1]) + 1 for f in fronts)
    counts = np.stack([np.bincount(f, minlength=steps) for f in fronts])
    bounds = np.concatenate([np.zeros((1, steps), int), np.cumsum(counts, 0)]).T
    slots_needed = power_of_two(int(bounds[:, -1].max()))
    height = power_of_two(sum(h + _GUARD for h, _ in shapes) + 1)
    rows = np.full((steps, slots_needed), height - 1)  # unused slots write zeros there
    image, slots, base = np.zeros((steps, slots_needed), int), [], _GUARD
    for b, (front, (row, _)) in enumerate(zip(fronts, places, strict=True)):
        within = np.arange(len(front)) - np.concatenate([[0], np.cumsum(counts[b])])[front]
        slots.append(bounds[front, b] + within)
        rows[front, slots[b]] = base + row
        image[front, slots[b]] = b
        base += shapes[b][0] + _GUARD
    narrow = (a.astype(np.int32) for a in (rows, image, bounds))
    return Plan(orders, fronts, slots, *narrow, height)


def power_of_two(n: int) -> int:
    """Return the least power of two >= n."""
    return 1 << max(0, n - 1).bit_length()


def arranged(
    images: Sequence[np.ndarray], plan: Plan, part: slice, shape: tuple[int, int]
) -> np.ndarray:
    """Return the samples of wavefronts `part` by slot: images [h,w,C] -> [*shape,C]."""
    out = np.zeros((*shape, images[0].shape[2]), images[0].dtype)
    places = zip(images, plan.order, plan.wavefront, plan.slot, strict=True)
    for image, positions, wavefront, slot in places:
        low, high = np.searchsorted(wavefront, (part.start, part.stop))
        flat = image.reshape(len(wavefront), image.shape[2])
        out[wavefront[low:high] - part.start, slot[low:high]] = flat[positions[low:high]]
    return out


def to_raster(values: np.ndarray, positions: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return [h,w,C] of values [h*w,C] that stand in the order of coding."""
    out = np.empty_like(values)
    out[positions] = values
    return out.reshape(*shape, -1)
