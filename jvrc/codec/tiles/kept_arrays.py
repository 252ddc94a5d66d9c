"""Arrays of many tiles, in bounded memory."""

import tempfile
import weakref
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

HELD_BYTES = 2**26  # of latents that are kept in memory; those of further tiles go to a file


class Place(NamedTuple):
    """Where an array lies in a file."""

    begin: int
    shape: tuple[int, ...]
    dtype: np.dtype


class KeptArrays:
    """Tuples of arrays by number: in memory up to so many bytes, otherwise in a temporary file.

    The file is read and written, not mapped: mapped pages would count as the process's memory.
    """

    def __init__(self, held_bytes: int = HELD_BYTES) -> None:
        """held_bytes: that are kept in memory."""
        self._room = held_bytes
        self._held: dict[int, tuple[np.ndarray, ...]] = {}
        self._stored: dict[int, list[Place]] = {}
        self._free: list[Place] = []
        self._file = None

    def put(self, number: int, arrays: tuple[np.ndarray, ...]) -> None:
        """Keep arrays under a number."""
        size = sum(array.nbytes for array in arrays)
        self.drop(number)
        if size <= self._room:
            self._room -= size
            self._held[number] = arrays
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115
            weakref.finalize(self, self._file.close)
        self._stored[number] = [self._write(array) for array in arrays]

    def get(self, number: int) -> Sequence[np.ndarray] | None:
        """Return the arrays of a number, or None."""
        if number in self._stored:
            return tuple(map(self._read, self._stored[number]))
        return self._held.get(number)

    def drop(self, number: int) -> None:
        """Keep the arrays of a number no longer; others of their shapes take their place."""
        self._room += sum(array.nbytes for array in self._held.pop(number, ()))
        self._free += self._stored.pop(number, [])

    def drop_below(self, number: int) -> None:
        """Keep no arrays of smaller numbers any longer."""
        for old in [n for n in (*self._held, *self._stored) if n < number]:
            self.drop(old)

    def _write(self, array: np.ndarray) -> Place:
        free = (p for p in self._free if (p.shape, p.dtype) == (array.shape, array.dtype))
        place = next(free, None)
        if place:
            self._free.remove(place)
        else:
            place = Place(self._file.seek(0, 2), array.shape, array.dtype)
        self._file.seek(place.begin)
        self._file.write(np.ascontiguousarray(array).data)
        return place

    def _read(self, place: Place) -> np.ndarray:
        array = np.empty(place.shape, place.dtype)
        self._file.seek(place.begin)
        self._file.readinto(array.data.cast("B"))
        return array


def computed_once(
    kept: KeptArrays | None, number: int, compute: Callable[[], tuple[np.ndarray, ...]]
) -> Sequence[np.ndarray]:
    """Return the arrays of a number, computed unless they are kept. kept: None keeps nothing."""
    if kept is None:
        return compute()
    found = kept.get(number)
    if found is None:
        found = compute()
        kept.put(number, found)
    return found
