"""Photographs of a folder, and random crops of any photographs.

Pictures are a sequence of uint8 [H,W,3], wherever they come from. Batch number s is a function of
(seed, s) alone, so a resumed run sees what an uninterrupted one would have seen.
"""

import concurrent.futures
import hashlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from jvrc.io.images import list_images, read_image


class Photographs(NamedTuple):
    """Two sequences of pictures, uint8 [H,W,3], read anew each time: `Pictures` keeps them."""

    train: Sequence[np.ndarray]
    held: Sequence[np.ndarray]  # held back for validation; where there is one picture only, that


def open_folder(folder: str | Path) -> Photographs:
    """The photographs below a folder. ValueError if there are none."""
    train, held = split_validation(list_images(folder))
    return Photographs(Reader(read_image, train), Reader(read_image, held or train))


def split_validation(paths: list[Path], fraction: float = 0.04) -> tuple[list[Path], list[Path]]:
    """(training, validation): chosen by a hash of the file name, whatever else is in the folder."""
    parts = hold_back([p.name for p in paths], fraction, most=len(paths))
    return tuple(sorted(paths[i] for i in part) for part in parts)


def hold_back(names: Sequence[str], fraction: float, most: int) -> tuple[list[int], list[int]]:
    """(training, validation): numbers of names, rising; those of the lowest hashes are held back.

    One name at least and `most` at most are held back, but of a single name, none.
    """
    ranked = sorted(range(len(names)), key=lambda i: hashlib.sha256(names[i].encode()).digest())
    held = min(most, max(1, round(fraction * len(ranked)))) if len(ranked) > 1 else 0
    return sorted(ranked[held:]), sorted(ranked[:held])


class Reader(Sequence):
    """Pictures [H,W,3] uint8 by number, read anew each time: number i is ``read(keys[i])``."""

    def __init__(self, read: Callable[[Any], np.ndarray], keys: Sequence) -> None:
        self._read, self._keys = read, keys

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, i: int) -> np.ndarray:
        return self._read(self._keys[i])


class Pictures(Sequence):
    """Pictures [H,W,3] uint8 by number, kept in memory; those beyond `budget` bytes are not.

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
            # a few at a time, so that pictures beyond the budget are not held all at once
            for first in range(0, len(source), 16):
                some = range(first, min(first + 16, len(source)))
                for i, img in zip(some, pool.map(source.__getitem__, some), strict=True):
                    bar.update()
                    used += img.nbytes
                    if used > budget:
                        return
                    self._cache[i] = img

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, i: int) -> np.ndarray:
        return self._cache[i] if i in self._cache else self._source[i]


def crop(img: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """A random crop [size,size,3], flipped half of the time; small pictures are edge-padded."""
    short = [max(0, size - n) for n in img.shape[:2]]
    if any(short):
        img = np.pad(img, ((0, short[0]), (0, short[1]), (0, 0)), mode="edge")
    top, left = (rng.integers(n - size + 1) for n in img.shape[:2])
    patch = img[top : top + size, left : left + size]
    return patch[:, ::-1] if rng.random() < 0.5 else patch


def batch(
    pictures: Sequence[np.ndarray], seed: int, step: int, *, size: int, count: int
) -> np.ndarray:
    """uint8 [count,size,size,3], a function of (seed, step); pictures are equally likely."""
    rng = np.random.default_rng((seed, step))
    return np.stack(
        [crop(pictures[int(i)], size, rng) for i in rng.integers(len(pictures), size=count)]
    )


def prefetch(
    pictures: Sequence[np.ndarray], seed: int, first: int, last: int, **shape: int
) -> Iterator:
    """Batches first … last-1, made by a thread that keeps a few ahead."""
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
                put(batch(pictures, seed, step, **shape))
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


def centres(pictures: Sequence[np.ndarray], *, size: int = 256, limit: int = 24) -> np.ndarray:
    """uint8 [n,size,size,3]: the centres of at most `limit` pictures, spread over the sequence."""
    crops = []
    for i in range(0, len(pictures), max(1, -(-len(pictures) // limit))):
        img = pictures[i]
        short = [max(0, size - n) for n in img.shape[:2]]
        img = np.pad(img, ((0, short[0]), (0, short[1]), (0, 0)), mode="edge")
        top, left = ((n - size) // 2 for n in img.shape[:2])
        crops.append(img[top : top + size, left : left + size])
    return np.stack(crops)
