"""The images of a folder, and batches of random crops of any sequence of images.

Images are uint8 [H,W,3]. Batch number s is a function of (seed, s) alone, so that a resumed run
sees the batches that an uninterrupted one would have seen.
"""

import concurrent.futures
import functools
import hashlib
import queue
import threading
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from jvrc.io.images import list_images, read_image
from jvrc.training import unnatural


class Dataset(NamedTuple):
    """Two sequences of images, uint8 [H,W,3], read at each access; `ImageCache` keeps them."""

    train: Sequence[np.ndarray]
    held_out: Sequence[np.ndarray]  # for validation; of a single image, that one again


def open_folder(folder: str | Path) -> Dataset:
    """Return the images in a folder and the folders in it; ValueError if there are none."""
    train, held_out = split_paths(list_images(folder))
    return Dataset(Reader(read_image, train), Reader(read_image, held_out or train))


def split_paths(paths: list[Path], fraction: float = 0.04) -> tuple[list[Path], list[Path]]:
    """Return (training, held-out) files, chosen by the file name alone."""
    parts = split([p.name for p in paths], fraction, most=len(paths))
    return tuple(sorted(paths[i] for i in part) for part in parts)


def split(names: Sequence[str], fraction: float, most: int) -> tuple[list[int], list[int]]:
    """Return the (training, held-out) indices of names, each in rising order.

    Names with the lowest hashes are held out: at least one, at most `most`; of a single name, none.
    """
    ranked = sorted(range(len(names)), key=lambda i: hashlib.sha256(names[i].encode()).digest())
    count = min(most, max(1, round(fraction * len(ranked)))) if len(ranked) > 1 else 0
    return sorted(ranked[count:]), sorted(ranked[:count])


class Reader(Sequence):
    """Images, uint8 [H,W,3], that are read at each access: image i is ``read(keys[i])``.

    An image that cannot be read is skipped with a warning, once: the next one that can be takes its
    place. If none can, the first one's error is raised.

    Attributes:
      skipped: the keys of images that could not be read, with the reasons.
    """

    def __init__(self, read: Callable[[Any], np.ndarray], keys: Sequence) -> None:
        self._read, self._keys = read, keys
        self.skipped: dict[Any, str] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, i: int) -> np.ndarray:
        first, first_error = range(len(self))[i], None  # IndexError ends an iteration
        for j in range(first, first + len(self)):
            key = self._keys[j % len(self)]
            try:
                return self._read(key)
            except (OSError, ValueError) as error:
                first_error = first_error or error
                self._skip(key, error)
        raise first_error

    def read(self, i: int) -> np.ndarray | None:
        """Return image i alone; None, with a warning, if it cannot be read."""
        try:
            return self._read(self._keys[i])
        except (OSError, ValueError) as error:
            self._skip(self._keys[i], error)
            return None

    def _skip(self, key: Any, error: Exception) -> None:
        if key not in self.skipped:
            self.skipped[key] = str(error)
            warnings.warn(f"skipped: {error}", stacklevel=3)


class ImageCache(Sequence):
    """Images, uint8 [H,W,3], kept in memory up to `budget` bytes; the rest is read at each access.

    The source is read from several threads.
    """

    def __init__(
        self, source: Sequence[np.ndarray], *, budget: float = 4e9, progress: bool = True
    ) -> None:
        self._source = source
        self._cache: dict[int, np.ndarray] = {}
        used = 0
        bar = tqdm(total=len(source), desc="reading", unit="img", disable=not progress)
        with bar, concurrent.futures.ThreadPoolExecutor(4) as pool:
            # a few at a time, so that images beyond the budget are not in memory all at once
            for first in range(0, len(source), 16):
                some = range(first, min(first + 16, len(source)))
                for i, img in zip(some, pool.map(source.__getitem__, some), strict=True):
                    bar.update()
                    used += img.nbytes
                    if used > budget:
                        return
                    self._cache[i] = img

    def sides(self) -> list[int]:
        """Return the shorter side of each image in memory."""
        return [min(img.shape[:2]) for img in self._cache.values()]

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, i: int) -> np.ndarray:
        return self._cache[i] if i in self._cache else self._source[i]


def pad_to(img: np.ndarray, size: int) -> np.ndarray:
    """Return an image [H,W,3] repeated at its lower and right edges to at least size x size."""
    short = [max(0, size - n) for n in img.shape[:2]]
    if not any(short):
        return img
    return np.pad(img, ((0, short[0]), (0, short[1]), (0, 0)), mode="edge")


def announce_small(images: ImageCache, size: int) -> None:
    """Warn of images in memory that are smaller than crops of a size; see `pad_to`."""
    sides = images.sides()
    small = sum(side < size for side in sides)
    if small:
        warnings.warn(
            f"{small} of {len(sides)} images are smaller than the crops of {size}x{size} and are "
            "repeated at their lower and right edges: leave them out, or choose a smaller --crop",
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


def prefetch(
    images: Sequence[np.ndarray], seed: int, first: int, last: int, **options: Any
) -> Iterator[np.ndarray]:
    """Yield batches first … last-1, made in advance by a thread; options: of `batch`."""
    return in_advance(functools.partial(batch, images, seed, **options), first, last)


def in_advance(make: Callable[[int], np.ndarray], first: int, last: int) -> Generator[np.ndarray]:
    """Yield make(first) … make(last - 1), made in advance by a thread."""
    ready: queue.Queue = queue.Queue(maxsize=8)
    stop = threading.Event()

    def put(item: object) -> None:
        while not stop.is_set():
            try:
                return ready.put(item, timeout=0.2)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for step in range(first, last):
                put(make(step))
                if stop.is_set():
                    return
        except Exception as error:  # handed to the consumer, who raises it
            put(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        for _ in range(first, last):
            item = ready.get()
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()


def read_each(images: Sequence[np.ndarray], indices: Iterable[int]) -> Iterator[np.ndarray]:
    """Yield images by index, without those that cannot be read."""
    read = images.read if isinstance(images, Reader) else images.__getitem__
    for i in indices:
        img = read(i)
        if img is not None:
            yield img


def centres(images: Sequence[np.ndarray], *, size: int = 256, limit: int = 24) -> np.ndarray:
    """Return the centres of at most `limit` images, spread over the sequence.

    They are uint8 [n,size,size,3]; see `pad_to`. Images that cannot be read are left out.

    Raises:
      ValueError: none of them can be read.
    """
    crops = []
    for img in read_each(images, range(0, len(images), max(1, -(-len(images) // limit)))):
        img = pad_to(img, size)
        top, left = ((n - size) // 2 for n in img.shape[:2])
        crops.append(img[top : top + size, left : left + size])
    if not crops:
        raise ValueError("held-out images must be readable; got none that is: replace them")
    return np.stack(crops)
