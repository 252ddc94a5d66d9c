"""How exactly the encoder keeps the pixels of a patched block: all of them, or rounded to a grid.

Text and drawings are kept exactly. Noise, and whatever else takes many bits, is rounded to
multiples of a divisor of 255, so that black and white stay what they are.
"""

import numpy as np

from jvrc.codec.patch_screen import differs, packed_colours

STEPS = (1, 3, 5, 15, 17, 51, 85)  # of the grid, in grey levels
_EXACT = 6.0  # bits a pixel, up to which a block is kept exactly
_PALETTE = 256  # colours of a WebP palette
_COLOUR_BITS = 24


def rounded(block: np.ndarray, rate_weight: float, max_mse: float) -> tuple[np.ndarray, float]:
    """Return (block as it is to be coded, about its cost) of uint8 [h,w,3].

    The cost, in bits, is the least over the grids of bits + rate_weight * squared error, where
    squared errors are averaged over the colours and summed over pixels; of those grids alone whose
    mean squared error is at most max_mse.
    """
    best, cost = block, plain_bits(block)
    if cost <= _EXACT * block[..., 0].size:
        return best, cost
    for step in STEPS[1:]:
        found = (np.rint(block / np.float32(step)) * step).astype(np.uint8)
        mse = float(np.mean(np.square(found.astype(np.int32) - block), dtype=np.float64))
        distortion = rate_weight * mse * found[..., 0].size
        if mse > max_mse or distortion >= cost:
            break
        found_cost = plain_bits(found) + distortion
        if found_cost < cost:
            best, cost = found, found_cost
    return best, cost


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
