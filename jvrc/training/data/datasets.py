"""The images of a folder, read at each access or kept in memory. They are uint8 [H,W,3]."""

import concurrent.futures
import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from jvrc.io.images import list_images, read_image


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


def read_each(images: Sequence[np.ndarray], indices: Iterable[int]) -> Iterator[np.ndarray]:
    """Yield images by index, without those that cannot be read."""
    read = images.read if isinstance(images, Reader) else images.__getitem__
    for i in indices:
        img = read(i)
        if img is not None:
            yield img
