"""How exactly the encoder keeps the pixels of a patched block: all of them, or rounded to a grid.

Text and drawings are kept exactly. Noise, and whatever else takes many bits, is rounded to
multiples of a divisor of 255, so that black and white stay what they are; so do frequent colours.
"""

import numpy as np

from jvrc.codec.tiles.block_statistics import differs
from jvrc.coding.patch import packed_colours

STEPS = (1, 3, 5, 15, 17)  # of the grid, in grey levels
_EXACT = 6.0  # bits a pixel, up to which a block is kept exactly
_FREQUENT = 64  # pixels of a colour that is kept in any case, such as a background
_PALETTE = 256  # colours of a WebP palette
_COLOUR_BITS = 24


def rounded(block: np.ndarray, error_weight: float, max_step: int) -> tuple[np.ndarray, float]:
    """Return (block as it is to be coded, about its cost) of uint8 [h,w,3].

    The cost, in bits, is the least over the grids of bits + error_weight * squared error, where
    squared errors are averaged over the colours and summed over pixels.
    """
    best, cost = block, plain_bits(block)
    if cost <= _EXACT * block[..., 0].size:
        return best, cost
    kept = _frequent(block)
    for step in STEPS[1:]:
        if step > max_step:
            break
        found = (np.rint(block / np.float32(step)) * step).astype(np.uint8)
        found = np.where(kept[..., None], block, found)
        error = np.square(found.astype(np.int32) - block).sum() / 3
        found_cost = plain_bits(found) + error_weight * float(error)
        if found_cost < cost:
            best, cost = found, found_cost
    return best, cost


def _frequent(block: np.ndarray) -> np.ndarray:
    """Return where a block has one of its frequent colours, bool [h,w]."""
    packed = packed_colours(block)
    _, indices, counts = np.unique(packed, return_inverse=True, return_counts=True)
    return counts[indices.reshape(packed.shape)] >= _FREQUENT


def plain_bits(block: np.ndarray) -> float:
    """Return roughly what a lossless coder needs for a block, uint8 [h,w,3], in bits.

    Where pixels are unlike both neighbours, and by how much in G, R - G and B - G; or, of few
    colours, these and which.
    """
    packed, green = packed_colours(block), block[..., 1]
    novel = differs(packed, 0) & differs(packed, 1)
    planes = np.stack([green, block[..., 0] - green, block[..., 2] - green])  # modulo 256
    changes = [np.diff(planes, axis=axis, prepend=np.uint8(0))[:, novel] for axis in (1, 2)]
    bits = min(sum(map(_entropy, change)) for change in changes) + _entropy(novel)
    _, indices = np.unique(packed, return_inverse=True)
    colours = int(indices.max()) + 1
    return min(bits, _entropy(indices) + _COLOUR_BITS * colours) if colours <= _PALETTE else bits


def _entropy(samples: np.ndarray) -> float:
    """Return the bits of samples, integers of at least 0, under their own histogram."""
    counts = np.bincount(samples.ravel())
    counts = counts[counts > 0]
    return float(counts.sum() * np.log2(max(counts.sum(), 1)) - np.sum(counts * np.log2(counts)))
