"""Range coder: integer symbols under CDF tables to bytes and back, in JAX.

FORMAT.md, section 2, specifies the stream of n symbols over L lanes, L a power of two up to 4096;
the receiver knows n, L and the table of each symbol. Symbol i belongs to lane i mod L; all lanes
share one sequence of words. jvrc.coding.rans has the arithmetic of a lane.

* The encoder starts every lane at 2**16 and takes the symbols from the last to the first; the
  stream is its last states, then its words in reverse order. The decoder so reads forwards.
* The decoder ends with all states at 2**16 and no word left; anything else is a damaged stream.
* The kernels run on chunks of fixed sizes and hand on the states. The bytes do not depend on the
  chunks, and a kernel is compiled once for each chunk size (and power of two of the tables' total
  size; the encoder for each L too), whatever n is.

Size: a lane's state takes 4 bytes and carries 1, and x div f loses precision where it is small. A
stream is 3 bytes a lane and 0.15 % (measured) above the ideal.
"""

from typing import NamedTuple

import jax
import numpy as np

from jvrc.coding import rans
from jvrc.coding.tables import TOTAL, CdfTables
from jvrc.errors import BitstreamError
from jvrc.runtime import devices

MAX_LANES = 4096
MAX_TABLES = 2**16 - 2  # so that (tables + filler) * 2**16 fits 32 bits, with 2**32 - 1 above
LANE_BYTES = 4096  # choose_lanes: one lane for so many bytes keeps its 3 bytes below 0.1 %

_MOST_CHOSEN_LANES = 64
_CHUNKS = (2**12, 2**16)  # symbols of a kernel call; multiples of MAX_LANES
_MIN_ROOM = 2**8  # smallest size of a lookup array


class Prepared(NamedTuple):
    """Lookup arrays of the kernels, made from CDF tables by `prepare`.

    All symbols of all tables stand in one row, behind them one of frequency 2**16, the filler. The
    symbol of table t with cumulative frequency c has the start t * 2**16 + c: starts rise strictly
    along the row. P, Q, R: powers of two.
    """

    sizes: np.ndarray  # int32 [tables], on the host: symbols in each table
    first: jax.Array  # int32 [P]: where each table begins in the row; the filler is the last one
    starts: jax.Array  # uint32 [Q]: the starts, then 2**32 - 1
    packed: jax.Array  # uint32 [Q]: (f - 1) * 2**16 + c
    buckets: jax.Array  # int32 [R]: the symbol that holds the first slot of each bucket


def prepare(tables: CdfTables, *, device: jax.Device | None = None) -> Prepared:
    """Return the lookup arrays of CDF tables on `device` (the CPU if None); takes about 1 ms.

    Raises:
      ValueError: too many tables, or frequencies that are not positive or do not sum to 2**16.
    """
    freq, start = np.asarray(tables.freq), np.asarray(tables.start)
    _check_tables(freq, start)
    sizes = np.diff(start).astype(np.int32)
    freq = np.append(freq.astype(np.int64), TOTAL)
    ends = np.cumsum(freq)  # each table sums to 2**16, so t * 2**16 + c is one running sum
    starts = ends - freq
    room = _power_of_two(len(freq) + 2**rans.BUCKET_BITS)  # the search looks a bucket ahead
    first = np.concatenate([[0], np.cumsum(sizes)])
    buckets = _bucket_symbols(starts, ends[-1])
    arrays = (
        _fill(first, _power_of_two(len(first)), 0, np.int32),
        _fill(starts, room, 2**32 - 1, np.uint32),
        _fill((freq - 1) << 16 | starts & (TOTAL - 1), room, 0, np.uint32),
        _fill(buckets, _power_of_two(len(buckets)), 0, np.int32),
    )
    return Prepared(sizes, *jax.device_put(arrays, device or devices.cpu()))


def choose_lanes(expected_bytes: float) -> int:
    """Return the lanes for a stream of about that size: 1 ... 64, LANE_BYTES a lane at least."""
    lanes = min(_MOST_CHOSEN_LANES, max(1, int(expected_bytes) // LANE_BYTES))
    return 1 << lanes.bit_length() - 1


def encode(symbols: np.ndarray, index: np.ndarray, tables: Prepared, lanes: int) -> bytes:
    """Return the stream of symbols, int [n]; index, int [n]: the table of each symbol.

    Runs on the device of the tables; the bytes do not depend on it.

    Raises:
      ValueError: a symbol, table or number of lanes that does not exist.
    """
    symbols, index = np.asarray(symbols), np.asarray(index)
    _check_call(index, tables, lanes)
    _check_symbols(symbols, index, tables)
    n = len(symbols)
    state = _beside(tables, np.full(lanes, TOTAL, np.uint32))
    emitted = []
    for begin, size in reversed(_chunks(n)):
        chunk = _fill(symbols[begin : begin + size], size, 0, np.int32)
        table = _fill(index[begin : begin + size], size, len(tables.sizes), np.int32)
        state, out = rans.encode_chunk(state, chunk, table, tables.first, tables.packed)
        emitted.append(out)
    out = [np.asarray(x) for x in reversed(emitted)]
    words = [x[x >= TOTAL].astype("<u2").tobytes() for x in out]
    return b"".join([np.asarray(state)[:n].astype("<u4").tobytes(), *words])


def decode(
    data: bytes,
    index: np.ndarray,
    tables: Prepared,
    lanes: int,
    *,
    lanes_at_once: bool | None = None,
) -> np.ndarray:
    """Return the symbols, int32 [n], of a stream that `encode` made with the same other arguments.

    See Decoder.

    Raises:
      BitstreamError: `data` is no such stream.
    """
    decoder = Decoder(data, np.size(index), tables, lanes, lanes_at_once=lanes_at_once)
    symbols = decoder.take(index)
    decoder.finish()
    return symbols


class Decoder:
    """A stream of n symbols, taken part by part.

    Runs on the device of the tables, in time and memory bounded by n.
    """

    def __init__(
        self,
        data: bytes,
        n: int,
        tables: Prepared,
        lanes: int,
        *,
        lanes_at_once: bool | None = None,
    ) -> None:
        """lanes_at_once: decode a symbol of every lane in one step, or one symbol a step.

        By default what the device is faster at, which is one symbol a step on CPUs. The result is
        the same.

        Raises:
          BitstreamError: `data` can't be a stream of n symbols.
        """
        _check_lanes(lanes)
        if lanes_at_once is None:
            lanes_at_once = _device(tables).platform != "cpu"
        self._kernel = rans.decode_in_lanes if lanes_at_once else rans.decode_serially
        state, self._words = read_states(data, n, lanes)
        self._state = _beside(tables, state[:lanes] if lanes_at_once else state)
        self._tables, self._lanes, self._lane, self._position = tables, lanes, 0, 0

    def take(self, index: np.ndarray) -> np.ndarray:
        """Return the next symbols, int32 [m]; index, int [m]: the table of each.

        Raises:
          BitstreamError: the words end before them.
        """
        index = np.asarray(index)
        _check_call(index, self._tables, self._lanes)
        m, words = len(index), self._words
        self._begin_at(self._lane)
        symbols = np.empty(m, np.int32)
        for begin, size in _chunks(m):
            table = _fill(index[begin : begin + size], size, len(self._tables.sizes), np.int32)
            ahead = _fill(words[self._position : self._position + size], size, 0, np.uint16)
            lanes = np.int32(self._lanes)
            self._state, used, out = self._kernel(
                self._state, ahead, table, lanes, *self._tables[1:]
            )
            symbols[begin : begin + size] = np.asarray(out)[: m - begin]
            self._position += int(used)
            check_end(self._position, len(words), None)
        self._begin_at(-self._lane)
        self._lane = (self._lane + m) % self._lanes
        return symbols

    def finish(self) -> None:
        """Raise BitstreamError unless the stream ends behind the symbols taken."""
        check_end(self._position, len(self._words), np.asarray(self._state))

    def _begin_at(self, lane: int) -> None:
        """Turn the states, so that a kernel, which begins with the first, begins with a lane."""
        if lane:
            state = np.array(self._state)
            state[: self._lanes] = np.roll(state[: self._lanes], -lane)
            self._state = _beside(self._tables, state)


def read_states(data: bytes, n: int, lanes: int) -> tuple[np.ndarray, np.ndarray]:
    """Split a stream of n symbols into states, uint32 [MAX_LANES], and words, uint16.

    Raises:
      BitstreamError: it is too short or of odd length, or a state is out of range.
    """
    count = min(n, lanes)
    if len(data) < 4 * count or len(data) % 2:
        raise BitstreamError(f"{len(data)} bytes are not {4 * count} of states and whole words")
    state = np.full(MAX_LANES, TOTAL, np.uint32)
    state[:count] = np.frombuffer(data, "<u4", count=count)
    if (state < TOTAL).any():
        raise BitstreamError("a state is below 2**16: damaged stream")
    return state, np.frombuffer(data, "<u2", offset=4 * count)


def check_end(position: int, words: int, state: np.ndarray | None) -> None:
    """Raise BitstreamError if a decoder took more than `words` words, or did not end as it must.

    position: words taken so far. state: the states after the last symbol; None before that.
    """
    if position > words:
        raise BitstreamError("the words end before the symbols: truncated or damaged stream")
    if state is not None and (position != words or (state != TOTAL).any()):
        raise BitstreamError("the words do not end with the symbols: damaged or foreign stream")


def _bucket_symbols(starts: np.ndarray, end: int) -> np.ndarray:
    """Return the symbol that holds the first slot of each bucket: int [end / 64]."""
    buckets = -(-starts >> rans.BUCKET_BITS)  # the first bucket that begins at a start or behind it
    return np.cumsum(np.bincount(buckets, minlength=end >> rans.BUCKET_BITS)) - 1


def _device(tables: Prepared) -> jax.Device:
    return next(iter(tables.first.devices()))


def _beside(tables: Prepared, state: np.ndarray) -> jax.Array:
    """Put the first states on the tables' device, as later ones are; else jit compiles twice."""
    return jax.device_put(state, _device(tables))


def _chunks(n: int) -> list[tuple[int, int]]:
    """Return (begin, size) of the chunks: small ones for less than a quarter of a large one.

    Filling up a large chunk costs a millisecond, loading the kernel for small ones twenty.
    """
    chunks, begin = [], 0
    small, large = _CHUNKS
    while begin < n:
        chunks.append((begin, large if n - begin > large // 4 else small))
        begin += chunks[-1][1]
    return chunks


def _power_of_two(n: int) -> int:
    return max(_MIN_ROOM, 1 << (n - 1).bit_length())


def _fill(values: np.ndarray, size: int, value: int, dtype: type) -> np.ndarray:
    """Return the values, padded with `value` to `size`; without a copy if nothing changes."""
    if len(values) == size:
        return values.astype(dtype, copy=False)
    filled = np.full(size, value, dtype)
    filled[: len(values)] = values
    return filled


def _check_tables(freq: np.ndarray, start: np.ndarray) -> None:
    if freq.ndim != 1 or start.ndim != 1 or {freq.dtype.kind, start.dtype.kind} - {"i", "u"}:
        raise ValueError(f"tables must be rows of integers, got {freq.dtype} and {start.dtype}")
    if not 2 <= len(start) <= MAX_TABLES + 1:
        raise ValueError(f"tables must number 1 to {MAX_TABLES}, got {len(start) - 1}")
    if start[0] != 0 or start[-1] != len(freq) or np.diff(start.astype(np.int64)).min() < 1:
        raise ValueError("tables.start must rise strictly from 0 to the length of tables.freq")
    sums = np.add.reduceat(freq.astype(np.int64), start[:-1])
    if freq.min() < 1 or (sums != TOTAL).any():
        raise ValueError("tables.freq must be positive and sum to 65536 in every table")


def _check_lanes(lanes: int) -> None:
    if not 1 <= lanes <= MAX_LANES or lanes & (lanes - 1):
        raise ValueError(f"lanes must be a power of two, 1 to {MAX_LANES}, got {lanes}")


def _check_call(index: np.ndarray, tables: Prepared, lanes: int) -> None:
    _check_lanes(lanes)
    if index.ndim != 1 or index.dtype.kind not in "iu":
        raise ValueError(f"index must be a row of integers, got {index.dtype} {index.shape}")
    if index.size and not 0 <= index.min() <= index.max() < len(tables.sizes):
        least, most = index.min(), index.max()
        raise ValueError(f"index must be in 0 ... {len(tables.sizes) - 1}, got {least} ... {most}")


def _check_symbols(symbols: np.ndarray, index: np.ndarray, tables: Prepared) -> None:
    if symbols.shape != index.shape or symbols.dtype.kind not in "iu":
        found = f"{symbols.dtype} {symbols.shape}"
        raise ValueError(f"symbols must be integers of index's shape {index.shape}, got {found}")
    wrong = (symbols < 0) | (symbols >= tables.sizes[index])
    if wrong.any():
        at = int(wrong.argmax())
        size = tables.sizes[index[at]]
        raise ValueError(f"symbols[{at}] must be in 0 ... {size - 1}, got {symbols[at]}")
