"""Range asymmetric numeral systems (rANS): the coding of symbols into states and words, in JAX.

A lane has a state x. With a symbol's frequency f and its cumulative frequency c, the sum of those
before it in its table,

    encode   if x >= f * 2**16: emit the word x mod 2**16, x <- x div 2**16
             x <- (x div f) * 2**16 + (x mod f) + c
    decode   x <- f * (x div 2**16) + (x mod 2**16) - c
             if x < 2**16: take the next word v, x <- x * 2**16 + v

(J. Duda 2013, arXiv 1311.2540, with frequencies of sum 2**16 and words of 16 bits). Invariants:

* Between two symbols 2**16 <= x < 2**32. A symbol emits or takes one word at most, and all
  intermediate results fit uint32.
* The symbol to decode is the only one with c <= x mod 2**16 < c + f. A decoding step undoes an
  encoding step exactly, so symbols and words come out in the reverse of the order of encoding.
* A symbol of frequency 2**16 changes no state and moves no word. So chunks of symbols may be filled
  up with such symbols to a fixed size, for which a kernel is compiled once.

The lookup arrays `first`, `starts`, `packed` and `buckets` are those of `range_coder.Prepared`.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jvrc.coding.tables import TOTAL
from jvrc.runtime.programs import stored

BUCKET_BITS = 6  # a bucket has 64 of a table's 2**16 slots; the search in it takes 6 steps

_U16, _LOW_HALF = np.uint32(16), np.uint32(TOTAL - 1)
_at = partial(jnp.take, axis=0, mode="clip")


@stored
def encode_chunk(
    state: Array, symbols: Array, index: Array, first: Array, packed: Array
) -> tuple[Array, Array]:
    """Encode a chunk: states uint32 [L], symbols and tables int32 [C].

    Returns the states and, for each symbol, 2**16 + the word that it emitted, or 0: uint32 [C].
    """
    lanes = state.shape[0]

    def step(x, entry):
        frequency, start = (entry >> _U16) + np.uint32(1), entry & _LOW_HALF
        emit = (x >> _U16) >= frequency
        word = jnp.where(emit, (x & _LOW_HALF) + np.uint32(TOTAL), np.uint32(0))
        x = jnp.where(emit, x >> _U16, x)
        # (x div f) * 2**16 + x mod f + c, with one division
        return x + x // frequency * (np.uint32(TOTAL) - frequency) + start, word

    entries = packed[first[index] + symbols].reshape(-1, lanes)
    state, words = jax.lax.scan(step, state, entries, reverse=True)
    return state, words.ravel()


def decode_step(
    x: Array, table_start: Array, starts: Array, packed: Array, buckets: Array
) -> tuple[Array, Array]:
    """Decode one symbol of each state: return (states before `refill`, places in the row).

    x, table_start: uint32, scalars or one a lane; table_start is the symbol's table * 2**16. The
    others: fields of `Prepared`.
    """
    slot = x & _LOW_HALF
    target = table_start | slot  # the symbol is the last one whose start is not above this
    symbol = _at(buckets, (target >> np.uint32(BUCKET_BITS)).astype(np.int32))
    for bit in reversed(range(BUCKET_BITS)):
        ahead = symbol + np.int32(1 << bit)
        symbol = jnp.where(_at(starts, ahead) <= target, ahead, symbol)
    entry = _at(packed, symbol)
    return ((entry >> _U16) + np.uint32(1)) * (x >> _U16) + slot - (entry & _LOW_HALF), symbol


def refill(x: Array, word: Array) -> tuple[Array, Array]:
    """Return (states, with the next word taken where x < 2**16; whether it was taken)."""
    need = x < np.uint32(TOTAL)
    return jnp.where(need, x << _U16 | word.astype(np.uint32), x), need


@stored
def decode_serially(
    state: Array,
    words: Array,
    index: Array,
    lanes: Array,
    first: Array,
    starts: Array,
    packed: Array,
    buckets: Array,
) -> tuple[Array, Array, Array]:
    """Decode a chunk, one symbol a step: for CPUs.

    XLA's CPU backend compiles a body of scalars to one tight loop, ten times as fast as a dozen
    small vector kernels a step.

    state: uint32 [MAX_LANES]. words: the next ones, uint16 [C]. index: tables, int32 [C].
    Returns (states, number of words taken, symbols int32 [C]).
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


@stored
def decode_in_lanes(
    state: Array,
    words: Array,
    index: Array,
    lanes: Array,
    first: Array,
    starts: Array,
    packed: Array,
    buckets: Array,
) -> tuple[Array, Array, Array]:
    """Decode a chunk, a symbol of every lane in one step: for accelerators. state: uint32 [L]."""
    del lanes

    def step(carry, table_start):
        x, position = carry
        x, symbol = decode_step(x, table_start, starts, packed, buckets)
        upto = position + jnp.cumsum(x < np.uint32(TOTAL), dtype=np.int32)
        x, _ = refill(x, _at(words, upto - np.int32(1)))
        return (x, upto[-1]), symbol

    table_starts = (index.astype(np.uint32) << _U16).reshape(-1, state.shape[0])
    (state, used), symbols = jax.lax.scan(step, (state, jnp.int32(0)), table_starts)
    return state, used, symbols.ravel() - first[index]
