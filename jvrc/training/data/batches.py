"""Batches of random crops of any sequence of images, made in advance.

Images are uint8 [H,W,3]. Batch number s is a function of (seed, s) alone, so that a resumed run
sees the batches that an uninterrupted one would have seen.
"""

import warnings
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from jvrc.coding.tile_grid import BLOCK
from jvrc.training.data import unnatural
from jvrc.training.data.datasets import read_each

_AHEAD = 8  # batches made in advance


def pad_to(img: np.ndarray, size: int) -> np.ndarray:
    """Return an image [H,W,3] repeated at its lower and right edges to at least size x size."""
    short = [max(0, size - n) for n in img.shape[:2]]
    if not any(short):
        return img
    return np.pad(img, ((0, short[0]), (0, short[1]), (0, 0)), mode="edge")


def announce_small(sides: Sequence[int], size: int, *, parts: str, option: str) -> None:
    """Warn of images whose shorter side is less than that of crops or tiles; see `pad_to`.

    sides: the shorter side of each image. parts, option: what of, and the option to change.
    """
    small = sum(side < size for side in sides)
    if small:
        warnings.warn(
            f"{small} of {len(sides)} images are smaller than the {parts} of {size}x{size} and "
            "are repeated at their lower and right edges: leave them out, or choose a smaller "
            f"{option}",
            stacklevel=2,
        )


def crop(img: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return a random crop [size,size,3], mirrored half of the time; see `pad_to`."""
    img = pad_to(img, size)
    top, left = (rng.integers(n - size + 1) for n in img.shape[:2])
    patch = img[top : top + size, left : left + size]
    return patch[:, ::-1] if rng.random() < 0.5 else patch


def batch(
    images: Sequence[np.ndarray],
    seed: int,
    step: int,
    *,
    size: int,
    count: int,
    unnatural_share: float = 0.0,
) -> np.ndarray:
    """Return random crops, uint8 [count,size,size,3]; all images are equally likely.

    unnatural_share: of the crops that become a tile that is no photograph.
    """
    rng = np.random.default_rng((seed, step))
    crops = [crop(images[int(i)], size, rng) for i in rng.integers(len(images), size=count)]
    for i in np.flatnonzero(rng.random(count) < unnatural_share):
        crops[i] = unnatural.tile(rng, int(rng.integers(len(unnatural.KINDS))), crops[i])
    return np.stack(crops)


def in_advance(make: Callable[[int], np.ndarray], first: int, last: int) -> Generator[np.ndarray]:
    """Yield make(first) … make(last - 1), of which a thread makes the next _AHEAD in advance."""
    pending: deque[Future] = deque()
    pool = ThreadPoolExecutor(1)
    try:
        for step in range(first, last):
            pending.append(pool.submit(make, step))
            if len(pending) > _AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def centres(images: Sequence[np.ndarray], *, size: int = 256, limit: int = 24) -> np.ndarray:
    """Return the centres of at most `limit` images, spread over the sequence.

    They are uint8 [n,size,size,3]; see `pad_to`. Images that cannot be read are left out.

    Raises:
      ValueError: none of them can be read.
    """
    return np.stack(_centres(images, size, limit, padded_to=size, unit=1))


def centres_of_blocks(images: Sequence[np.ndarray], *, size: int, limit: int) -> list[np.ndarray]:
    """Return the centres of at most `limit` images, uint8 [h,w,3], of at most `size` pixels a side.

    Of a side below `size` it is as many whole blocks of 64 pixels as it has, so nothing is repeated
    at edges, unless a side is below 64. Images that cannot be read are left out.

    Raises:
      ValueError: none of them can be read.
    """
    return _centres(images, size, limit, padded_to=BLOCK, unit=BLOCK)


def _centres(
    images: Sequence[np.ndarray], size: int, limit: int, *, padded_to: int, unit: int
) -> list[np.ndarray]:
    chosen = range(0, len(images), max(1, -(-len(images) // limit)))
    crops = [_centre(pad_to(img, padded_to), size, unit) for img in read_each(images, chosen)]
    if not crops:
        raise ValueError("images must be readable; got none that is: replace them")
    return crops


def _centre(img: np.ndarray, size: int, unit: int) -> np.ndarray:
    """Return the largest part of sides k * unit <= size in the middle of an image."""
    sides = [min(size, n // unit * unit) for n in img.shape[:2]]
    top, left = ((n - side) // 2 for n, side in zip(img.shape[:2], sides, strict=True))
    return img[top : top + sides[0], left : left + sides[1]].copy()  # img itself is released
