"""Arrays of many tiles, in bounded memory."""

import tempfile
import weakref
from collections.abc import Callable, Sequence

import numpy as np

HELD_BYTES = 2**26  # of latents that are kept in memory; those of further tiles go to a file


class KeptArrays:
    """Tuples of arrays by number: in memory up to so many bytes, otherwise in a temporary file.

    The file is read and written, not mapped: mapped pages would count as the process's memory.
    """

    def __init__(self, held_bytes: int = HELD_BYTES) -> None:
        """held_bytes: that are kept in memory."""
        self._room = held_bytes
        self._held: dict[int, tuple[np.ndarray, ...]] = {}
        self._stored: dict[int, list[tuple[int, tuple[int, ...], np.dtype]]] = {}
        self._file = None

    def put(self, number: int, arrays: tuple[np.ndarray, ...]) -> None:
        """Keep arrays under a number."""
        size = sum(array.nbytes for array in arrays)
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
            return tuple(self._read(*place) for place in self._stored[number])
        return self._held.get(number)

    def _write(self, array: np.ndarray) -> tuple[int, tuple[int, ...], np.dtype]:
        place = self._file.seek(0, 2)
        self._file.write(np.ascontiguousarray(array).data)
        return place, array.shape, array.dtype

    def _read(self, place: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        array = np.empty(shape, dtype)
        self._file.seek(place)
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
