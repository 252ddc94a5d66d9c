"""Range-ANS coder over interleaved lanes, in JAX: integer symbols under integer tables to bytes.

FORMAT.md, section 2, specifies the stream of n symbols over L lanes, a power of two up to 4096; n,
L and the table of every symbol are known to the receiver. Here a table is its row of cumulative
frequencies, strictly increasing, 0 = c[0] < c[1] < ... < c[k] = 2**16.

A lane's state takes 4 bytes and carries 1 on average. Above the ideal, a stream thus is 3 bytes a
lane, and 0.15 % (measured) because x div f is an integer as small as 1.

Nothing here needs 64 bits: x < 2**32 is held in uint32, and f * (x div 2**16) + r - c < 2**32.
The calls run in chunks of fixed size, with the states carried over and the last chunk filled with
symbols of a table of one symbol, which change nothing; the bytes do not depend on the chunks. So
each kernel is compiled once for each chunk size (and power of two of the tables' total size; the
encoder for each L too), whatever n.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jvrc.errors import BitstreamError

MAX_LANES = 4096
MAX_TABLES = 2**16 - 2  # so that (tables + filler) * 2**16 fits 32 bits, with 2**32 - 1 above
LANE_BYTES = 4096  # choose_lanes: a lane for so many bytes keeps its 3 bytes below 0.1 %

_ONE = 2**16
_CHUNKS = (2**12, 2**16)  # symbols a kernel call; multiples of MAX_LANES
_BUCKET_BITS = 6  # a bucket is 64 slots; the search inside takes as many steps as there are bits
_U16, _U32 = np.uint32(16), np.uint32(_ONE - 1)


class Tables(NamedTuple):
    """Distributions over integers as one flat row of cumulative frequencies."""

    cdf: np.ndarray  # int32 [total]; table t is cdf[start[t] : start[t + 1]], from 0 to 2**16
    start: np.ndarray  # int32 [tables + 1]


class Prepared(NamedTuple):
    """What the kernels look up, derived from `Tables` exactly. All symbols of all tables in a row.

    The row's symbol g of table t has start t * 2**16 + c, so that the starts rise throughout.
    """

    sizes: np.ndarray  # int32 [tables], on the host: symbols in each table
    first: jax.Array  # int32 [P]: a table's first symbol in the row; the filler is the last table
    starts: jax.Array  # uint32 [Q]: the starts, then 2**32 - 1
    packed: jax.Array  # uint32 [Q]: (f - 1) * 2**16 + c
    buckets: jax.Array  # int32 [R]: the symbol that holds the first slot of each bucket


def prepare(tables: Tables, *, device: jax.Device | None = None) -> Prepared:
    """Returns the lookup tables on `device` (the CPU if None). Costs about a millisecond."""
    cdf, start = np.asarray(tables.cdf), np.asarray(tables.start)
    _check_tables(cdf, start)
    sizes = np.diff(start).astype(np.int32) - 1
    number = len(sizes)
    # Without its last entry, 2**16, each table goes on where the one before it ends.
    rows = np.repeat(np.arange(number), sizes)
    within = cdf[np.delete(np.arange(len(cdf)), start[1:] - 1)]
    starts = np.concatenate([rows * _ONE + within, [number * _ONE, (number + 1) * _ONE]])
    frequency = np.diff(starts)
    packed = (frequency - 1) << 16 | (starts[:-1] & (_ONE - 1))
    slots = -(-starts[:-1] >> _BUCKET_BITS)  # the first bucket that begins at this start or later
    buckets = np.cumsum(np.bincount(slots, minlength=starts[-1] >> _BUCKET_BITS)) - 1
    first = np.concatenate([[0], np.cumsum(sizes)])
    room = _power_of_two(len(packed) + 2**_BUCKET_BITS)  # the search looks a bucket ahead
    arrays = (
        _fill(first, _power_of_two(len(first)), 0, np.int32),
        _fill(starts[:-1], room, 2**32 - 1, np.uint32),
        _fill(packed, room, 0, np.uint32),
        _fill(buckets, _power_of_two(len(buckets)), 0, np.int32),
    )
    return Prepared(sizes, *jax.device_put(arrays, device or jax.devices("cpu")[0]))


def choose_lanes(expected_bytes: float) -> int:
    """Returns a power of two, 1 ... 64: at least LANE_BYTES bytes of the stream for each lane."""
    return 1 << min(6, max(1, int(expected_bytes) // LANE_BYTES).bit_length() - 1)


def encode(
    symbols: np.ndarray,
    index: np.ndarray,
    tables: Tables | Prepared,
    lanes: int,
    *,
    device: jax.Device | None = None,
) -> bytes:
    """Returns the stream of `symbols`, int [n], each under the table that `index`, int [n], names.

    Raises ValueError for symbols or tables that do not exist. The bytes do not depend on `device`.
    A `Prepared` saves the preparation and stays on its device if `device` is None.
    """
    tables = _prepared(tables, device)
    symbols, index = np.asarray(symbols), np.asarray(index)
    _check_call(index, tables, lanes)
    _check_symbols(symbols, index, tables)
    n = len(symbols)
    state = _beside(tables, np.full(lanes, _ONE, np.uint32))
    emitted = []
    for begin, size in reversed(_chunks(n)):
        part = slice(begin, begin + size)
        chunk = _fill(symbols[part], size, 0, np.int32)
        tables_of = _fill(index[part], size, len(tables.sizes), np.int32)
        state, out = _encode_chunk(state, chunk, tables_of, tables.first, tables.packed)
        emitted.append(out)
    out = [np.asarray(x) for x in reversed(emitted)]
    words = [x[x >= _ONE].astype("<u2").tobytes() for x in out]
    return b"".join([np.asarray(state)[:n].astype("<u4").tobytes(), *words])


def decode(
    data: bytes,
    index: np.ndarray,
    tables: Tables | Prepared,
    lanes: int,
    *,
    device: jax.Device | None = None,
) -> np.ndarray:
    """Returns the symbols, int32 [n], of a stream that `encode` made with the same other arguments.

    Raises BitstreamError where `data` is no such stream. Time and memory are bounded by n.
    """
    tables = _prepared(tables, device)
    index = np.asarray(index)
    _check_call(index, tables, lanes)
    n = len(index)
    state, words = read_states(data, n, lanes)
    on_cpu = next(iter(tables.first.devices())).platform == "cpu"
    kernel = _decode_serially if on_cpu else _decode_in_lanes
    state = _beside(tables, state if on_cpu else state[:lanes])
    symbols, position = np.empty(n, np.int32), 0
    for begin, size in _chunks(n):
        tables_of = _fill(index[begin : begin + size], size, len(tables.sizes), np.int32)
        ahead = _fill(words[position : position + size], size, 0, np.uint16)
        state, used, out = kernel(state, ahead, tables_of, np.int32(lanes), *tables[1:])
        symbols[begin : begin + size] = np.asarray(out)[: n - begin]
        position += int(used)
        check_end(position, len(words), None)
    check_end(position, len(words), np.asarray(state))
    return symbols


def read_states(data: bytes, n: int, lanes: int) -> tuple[np.ndarray, np.ndarray]:
    """(states uint32 [MAX_LANES], words uint16) of a stream of n symbols; or BitstreamError."""
    states = 4 * min(n, lanes)
    if len(data) < states or len(data) % 2:
        raise BitstreamError(f"{len(data)} bytes are not {states} of states and whole words")
    state = np.full(MAX_LANES, _ONE, np.uint32)
    state[: min(n, lanes)] = np.frombuffer(data, "<u4", count=min(n, lanes))
    if (state < _ONE).any():
        raise BitstreamError("a state is below 2**16: damaged stream")
    return state, np.frombuffer(data, "<u2", offset=states)


def check_end(position: int, words: int, state: np.ndarray | None) -> None:
    """BitstreamError unless `position` words of `words` are a part, or with a state, the whole."""
    if position > words:
        raise BitstreamError("the words end before the symbols: truncated or damaged stream")
    if state is not None and (position != words or (state != _ONE).any()):
        raise BitstreamError("the words do not end with the symbols: damaged or foreign stream")


@jax.jit
def _encode_chunk(state, symbols, index, first, packed):
    """States uint32 [L], symbols and tables int32 [C] -> states, uint32 [C]: 2**16 + word, or 0."""
    lanes = state.shape[0]

    def step(x, entry):
        frequency, start = (entry >> _U16) + np.uint32(1), entry & _U32
        emit = (x >> _U16) >= frequency
        word = jnp.where(emit, (x & _U32) + np.uint32(_ONE), np.uint32(0))
        x = jnp.where(emit, x >> _U16, x)
        return x + x // frequency * (np.uint32(_ONE) - frequency) + start, word

    entries = packed[first[index] + symbols].reshape(-1, lanes)
    state, words = jax.lax.scan(step, state, entries, reverse=True)
    return state, words.ravel()


def decode_step(
    x: jax.Array, table_start: jax.Array, starts: jax.Array, packed: jax.Array, buckets: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """One symbol of each x: (x before the next word, row's symbol). Scalars or one a lane."""
    slot = x & _U32
    target = table_start | slot
    symbol = _at(buckets, (target >> np.uint32(_BUCKET_BITS)).astype(np.int32))
    for bit in reversed(range(_BUCKET_BITS)):
        ahead = symbol + np.int32(1 << bit)
        symbol = jnp.where(_at(starts, ahead) <= target, ahead, symbol)
    entry = _at(packed, symbol)
    return ((entry >> _U16) + np.uint32(1)) * (x >> _U16) + slot - (entry & _U32), symbol


def refill(x: jax.Array, word: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(x with the next word if it needs one, whether it does)."""
    need = x < np.uint32(_ONE)
    return jnp.where(need, x << _U16 | word.astype(np.uint32), x), need


@jax.jit
def _decode_serially(state, words, index, lanes, first, starts, packed, buckets):
    """States uint32 [MAX_LANES], words uint16 [C], tables int32 [C] -> states, words used, symbols.

    One symbol a step in the order of the stream: XLA's CPU backend compiles a body of scalars to
    one tight loop, ten times as fast as a dozen small vector kernels a step.
    """

    def step(carry, table_start):
        # x is read *after* the last write of `state`, else XLA copies `state` in every step.
        x, state, lane, position = carry
        x, symbol = decode_step(x, table_start, starts, packed, buckets)
        x, need = refill(x, _at(words, position))
        state = jax.lax.dynamic_update_index_in_dim(state, x, lane, 0)
        lane = (lane + np.int32(1)) & (lanes - np.int32(1))
        return (_at(state, lane), state, lane, position + need.astype(np.int32)), symbol

    carry = (state[0], state, jnp.int32(0), jnp.int32(0))
    table_starts = index.astype(np.uint32) << _U16
    (_, state, _, used), symbols = jax.lax.scan(step, carry, table_starts)
    return state, used, symbols - first[index]


@jax.jit
def _decode_in_lanes(state, words, index, lanes, first, starts, packed, buckets):
    """The same with states uint32 [L], all lanes in one step: for accelerators."""
    del lanes

    def step(carry, table_start):
        x, position = carry
        x, symbol = decode_step(x, table_start, starts, packed, buckets)
        upto = position + jnp.cumsum(x < np.uint32(_ONE), dtype=np.int32)
        x, _ = refill(x, _at(words, upto - np.int32(1)))
        return (x, upto[-1]), symbol

    table_starts = (index.astype(np.uint32) << _U16).reshape(-1, state.shape[0])
    (state, used), symbols = jax.lax.scan(step, (state, jnp.int32(0)), table_starts)
    return state, used, symbols.ravel() - first[index]


_at = partial(jnp.take, axis=0, mode="clip")


def _beside(tables: Prepared, state: np.ndarray) -> jax.Array:
    """The first states on the device of the tables, as later ones are: else jit compiles twice."""
    return jax.device_put(state, next(iter(tables.first.devices())))


def _chunks(n: int) -> list[tuple[int, int]]:
    """(begin, size) of the chunks: large ones while a quarter of one is left, then small.

    A filled-up large chunk costs a millisecond, loading the program of the small ones twenty.
    """
    chunks, begin = [], 0
    small, large = _CHUNKS
    while begin < n:
        chunks.append((begin, large if n - begin > large // 4 else small))
        begin += chunks[-1][1]
    return chunks


def _power_of_two(n: int) -> int:
    return 1 << max(8, (n - 1).bit_length())


def _fill(values: np.ndarray, size: int, value: int, dtype: type) -> np.ndarray:
    """The values and, up to `size`, copies of `value`; the same array where nothing is to do."""
    if len(values) == size:
        return values.astype(dtype, copy=False)
    filled = np.full(size, value, dtype)
    filled[: len(values)] = values
    return filled


def _prepared(tables: Tables | Prepared, device: jax.Device | None) -> Prepared:
    if not isinstance(tables, Prepared):
        return prepare(tables, device=device)
    return tables if device is None else Prepared(tables[0], *jax.device_put(tables[1:], device))


def _check_tables(cdf: np.ndarray, start: np.ndarray) -> None:
    if cdf.ndim != 1 or start.ndim != 1 or {cdf.dtype.kind, start.dtype.kind} - {"i", "u"}:
        raise ValueError(f"tables must be rows of integers, got {cdf.dtype} and {start.dtype}")
    if not 2 <= len(start) <= MAX_TABLES + 1:
        raise ValueError(f"tables must number 1 to {MAX_TABLES}, got {len(start) - 1}")
    if start[0] != 0 or start[-1] != len(cdf) or np.diff(start.astype(np.int64)).min() < 2:
        raise ValueError("tables.start must rise by 2 or more from 0 to the length of tables.cdf")
    rises = np.diff(cdf.astype(np.int64))
    rises[start[1:-1] - 1] = 1  # from one table to the next
    if (cdf[start[:-1]] != 0).any() or (cdf[start[1:] - 1] != _ONE).any() or rises.min() < 1:
        raise ValueError("tables.cdf must rise strictly from 0 to 65536 in every table")


def _check_call(index: np.ndarray, tables: Prepared, lanes: int) -> None:
    if not 1 <= lanes <= MAX_LANES or lanes & (lanes - 1):
        raise ValueError(f"lanes must be a power of two, 1 to {MAX_LANES}, got {lanes}")
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
