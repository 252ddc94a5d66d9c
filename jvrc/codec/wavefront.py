"""Coding the latents of mbt2018, whose sigma and mu depend on the latents coded before.

A position sees two samples to its left and five in each of the two rows above, up to two to the
right. So all positions with equal column + 3 * row, a *wavefront*, are independent of each other.
One loop over wavefronts runs the context model, the entropy parameters and the range coder, for all
pictures of a batch at once; encoder and decoder differ in nothing but where its symbols come from.

What a wavefront sees lies in the eight before it: the sample c columns to the right, d rows above,
was coded 3 d - c wavefronts ago. The loop runs in chunks, with the last eight wavefronts and the
coder's state carried over. Shapes are rounded up to powers of two, so that a new size of picture
seldom compiles anew. All of it runs on the CPU backend: its float32 products are exact on integers.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jvrc.coding import container, escapes, range_coder, rans, scale_adaptation
from jvrc.errors import BitstreamError
from jvrc.frozen.model import FrozenModel
from jvrc.integer import context as integer_context
from jvrc.integer import hyper_synthesis
from jvrc.integer.hyper_synthesis import Network
from jvrc.model.config import Config
from jvrc.qstep import QSTEP_CODE_MIN, qstep_of

_BACK = 8  # wavefronts that a position looks back
_LAG = 3  # wavefronts from one row to the next
_GUARD = 2  # rows of zeros above each picture
_CHUNK = 256  # wavefronts, at most


class Symbols(NamedTuple):
    """What the loop gives for one picture."""

    y: np.ndarray  # int32 [h,w,M]
    index: np.ndarray  # uint8 [h,w,M]
    mu: np.ndarray  # float32 [h,w,M]


def order(height: int, width: int) -> np.ndarray:
    """Positions row * width + column in the order in which they are coded: int [height*width]."""
    row, column = np.divmod(np.arange(height * width), width)
    return np.argsort(column + _LAG * row, kind="stable")  # within a wavefront, the rows from above


class _Plan(NamedTuple):
    """Where the positions of a batch stand in the loop: wavefront `at[b]`, slot `slot[b]`."""

    order: list[np.ndarray]  # for each picture, int [h*w], as `order` gives it
    at: list[np.ndarray]  # likewise, in this order
    slot: list[np.ndarray]
    rows: np.ndarray  # int32 [T,P]: row in the history
    picture: np.ndarray  # int32 [T,P]
    bounds: np.ndarray  # int32 [T,B+1]: slots of picture b are bounds[b] … bounds[b+1] - 1
    height: int  # rows of the history


def _plan(shapes: Sequence[tuple[int, int]]) -> _Plan:
    """Slots for pictures of latents h x w, one after another in each wavefront."""
    orders = [order(h, w) for h, w in shapes]
    places = [np.divmod(o, w) for o, (_, w) in zip(orders, shapes, strict=True)]
    fronts = [column + _LAG * row for row, column in places]
    steps = max(int(f[-1]) + 1 for f in fronts)
    counts = np.stack([np.bincount(f, minlength=steps) for f in fronts])
    bounds = np.concatenate([np.zeros((1, steps), int), np.cumsum(counts, 0)]).T
    room = _power_of_two(int(bounds[:, -1].max()))
    height = _power_of_two(sum(h + _GUARD for h, _ in shapes) + 1)
    rows = np.full((steps, room), height - 1)  # unused slots write zeros there
    picture, slots, base = np.zeros((steps, room), int), [], _GUARD
    for b, (front, (row, _)) in enumerate(zip(fronts, places, strict=True)):
        within = np.arange(len(front)) - np.concatenate([[0], np.cumsum(counts[b])])[front]
        slots.append(bounds[front, b] + within)
        rows[front, slots[b]] = base + row
        picture[front, slots[b]] = b
        base += shapes[b][0] + _GUARD
    narrow = (a.astype(np.int32) for a in (rows, picture, bounds))
    return _Plan(orders, fronts, slots, *narrow, height)


def _power_of_two(n: int) -> int:
    return 1 << max(0, n - 1).bit_length()


class _Steps(NamedTuple):
    """What the loop reads at each wavefront: [T,…]."""

    rows: Array
    picture: Array
    bounds: Array
    psi: Array  # int32 [T,P,10M/3], see integer_context.psi_part
    y: Array  # float32 [T,P,M]; the decoder has none: [T,0,0]


class _Rates(NamedTuple):
    """What the step code of each picture determines: [B,…], integers."""

    code: Array
    step: Array  # Delta in 2**-10
    qstep: Array  # float32
    bias: Array  # [B,2M] of the context
    offsets: Array  # [B,90]


class _Coder(NamedTuple):
    """The decoder's state, for each picture."""

    state: Array  # uint32 [B,MAX_LANES]
    lane: Array  # int32 [B]
    position: Array  # int32 [B]: words taken
    escape: Array  # int32 [B]: escape values taken


class _Streams(NamedTuple):
    """What the decoder reads: the streams of a batch and the tables."""

    words: Array  # uint16 [B,.]
    escapes: Array  # int32 [B,.]
    lanes: Array  # int32 [B]
    tables: tuple  # first, starts, packed, buckets of range_coder.Prepared
    low: Array  # int32 [tables]: the value of a table's first symbol
    shifts: Array  # int32 [B,M], see jvrc.coding.scale_adaptation


Source = Callable[..., tuple[Any, Array]]  # where q comes from: (carry, …) -> (carry, q [P,M])


def _rounded(
    config: Config, network: Network, rates: _Rates, streams: None, carry: Any, at: _Steps,
    index: Array, mu: Array
) -> tuple[Any, Array]:  # fmt: skip
    """The encoder's symbols: (y - mu) / Delta, rounded."""
    qstep = rates.qstep[at.picture][:, None]
    limit = float(escapes.LIMIT)
    value = jnp.clip((at.y - hyper_synthesis.mu_of(network, mu)) / qstep, -limit, limit)
    return carry, jnp.round(value).astype(jnp.int32)


def _decoded(
    config: Config, network: Network, rates: _Rates, streams: _Streams, carry: _Coder,
    at: _Steps, index: Array, mu: Array
) -> tuple[_Coder, Array]:  # fmt: skip
    """The decoder's symbols, from the range coder: one after another, picture by picture."""
    values = jnp.zeros(index.size, jnp.int32)
    table = scale_adaptation.apply(index, streams.shifts[at.picture], len(streams.low))
    flat, channels = table.ravel().astype(jnp.int32), index.shape[1]
    for b in range(at.bounds.shape[0] - 1):
        begin, end = at.bounds[b] * channels, at.bounds[b + 1] * channels
        carry, values = _decode_slots(streams, carry, b, begin, end, flat, values)
    return carry, values.reshape(index.shape)


def _decode_slots(
    streams: _Streams, coder: _Coder, b: int, begin: Array, end: Array, index: Array, values: Array
) -> tuple[_Coder, Array]:
    """Values begin … end - 1 of one wavefront, all of picture b."""
    first, *lookup = streams.tables
    words, escaped, lanes = streams.words[b], streams.escapes[b], streams.lanes[b]
    at = partial(jnp.take, axis=0, mode="clip")

    def step(i: Array, c: tuple) -> tuple:
        # x is read after the last write of `state`, else XLA copies `state` in every step
        x, state, lane, position, escape, values = c
        table = index[i]
        x, symbol = rans.decode_step(x, table.astype(jnp.uint32) << 16, *lookup)
        x, need = rans.refill(x, at(words, position))
        state = lax.dynamic_update_index_in_dim(state, x, lane, 0)
        lane = (lane + 1) & (lanes - 1)
        outside = symbol + 1 == first[table + 1]
        value = symbol - first[table] + streams.low[table]
        value = jnp.where(outside, at(escaped, escape), value)
        values = lax.dynamic_update_index_in_dim(values, value, i, 0)
        position, escape = position + need.astype(jnp.int32), escape + outside.astype(jnp.int32)
        return state[lane], state, lane, position, escape, values

    begun = (coder.state[b], coder.lane[b], coder.position[b], coder.escape[b])
    c = lax.fori_loop(begin, end, step, (begun[0][begun[1]], *begun, values))
    put = [a.at[b].set(v) for a, v in zip(coder, c[1:5], strict=True)]
    return _Coder(*put), c[5]


def _seen(history: Array, t: Array, rows: Array) -> tuple[Array, Array, Array]:
    """What the context of each slot sees: [P,5M], [P,5M], [P,2M]. history: [_BACK + T,R,M]."""

    def taps(back: int, count: int, rows: Array) -> Array:
        size = (count, *history.shape[1:])
        block = lax.dynamic_slice(history, (t + _BACK - back, 0, 0), size)
        return jnp.moveaxis(jnp.take(block, rows, axis=1, mode="clip"), 0, 1).reshape(len(rows), -1)

    return taps(8, 5, rows - 2), taps(5, 5, rows - 1), taps(2, 2, rows)


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=(4, 5))
def _run(
    source: Source, config: Config, network: Network, constants: tuple, history: Array,
    carry: Any, steps: _Steps, count: Array
) -> tuple:  # fmt: skip
    """`count` wavefronts: (history, carry, index uint8, q, mu int32: [T,P,M] each)."""
    rates, streams = constants
    weights = integer_context.matrices(network)
    total, room = steps.rows.shape

    def step(t: Array, c: tuple) -> tuple:
        history, carry, *outputs = c
        at = jax.tree.map(lambda a: a[t], steps)
        seen = _seen(history, t, at.rows)
        bias, code, delta_of = (a[at.picture] for a in (rates.bias, rates.code, rates.offsets))
        log_sigma, mu = integer_context.parameters(config, network, weights, seen, at.psi, bias)
        index = hyper_synthesis.scale_index(log_sigma, code[:, None])
        carry, q = source(config, network, rates, streams, carry, at, index, mu)
        delta = jnp.take_along_axis(delta_of, index.astype(jnp.int32), axis=1)
        step_of = rates.step[at.picture][:, None]
        latents = integer_context.seen_latents(network, q, mu, delta, step_of)
        used = jnp.arange(room) < at.bounds[-1]
        history = history.at[t + _BACK, at.rows].set(jnp.where(used[:, None], latents, 0))
        results = zip(outputs, (index, q, mu), strict=True)
        return (history, carry, *(lax.dynamic_update_index_in_dim(o, r, t, 0) for o, r in results))

    kinds = (jnp.uint8, jnp.int32, jnp.int32)
    outputs = [jnp.zeros((total, room, config.M), kind) for kind in kinds]
    return lax.fori_loop(0, count, step, (history, carry, *outputs))


def encode(
    params: FrozenModel, y: Sequence[np.ndarray], psi: Sequence[np.ndarray], codes: Sequence[int]
) -> list[Symbols]:
    """The symbols of pictures' latents, all in one loop.

    y: float32 [h,w,M], one for each picture, of any sizes. psi: int32 [h,w,10M/3] each, see
    `integer_context.psi_part`. codes: step codes (jvrc.qstep), one for each picture.
    """
    return _loop(params, _rounded, None, 0, y, psi, codes)[1]


def decode(
    params: FrozenModel,
    streams: Sequence[container.Stream],
    psi: Sequence[np.ndarray],
    codes: Sequence[int],
    by: Sequence[np.ndarray],
) -> list[Symbols]:
    """The symbols of pictures' streams, all in one loop; the inverse of `encode`.

    streams: those of y, whose symbols stand in `order`. psi, codes: as in `encode`. by: shifts
    of the tables, int32 [M] each (jvrc.coding.scale_adaptation).

    Raises:
      BitstreamError: a stream is damaged or of another model.
    """
    channels = params.config.M
    sizes = [p.shape[0] * p.shape[1] * channels for p in psi]
    pairs = zip(streams, sizes, strict=True)
    opened = [range_coder.read_states(s.words, n, s.lanes) for s, n in pairs]
    values = [escapes.unpack_all(s.escapes) for s in streams]
    for found in values:
        escapes.check_limit(found)
    cdf = range_coder.prepare(params.y_tables)
    source = _Streams(
        words=_stacked([words for _, words in opened], np.uint16),
        escapes=_stacked(values, np.int32),
        lanes=np.array([s.lanes for s in streams], np.int32),
        tables=cdf[1:],
        low=np.asarray(params.y_tables.low),
        shifts=np.stack(by).astype(np.int32),
    )
    zeros = [np.zeros(len(streams), np.int32) for _ in range(3)]
    coder = _Coder(np.stack([state for state, _ in opened]), *zeros)
    nothing = [np.zeros((*p.shape[:2], 0), np.float32) for p in psi]
    coder, symbols = _loop(params, _decoded, source, coder, nothing, psi, codes)
    for b, ((_, words), found) in enumerate(zip(opened, values, strict=True)):
        range_coder.check_end(int(coder.position[b]), len(words), np.asarray(coder.state[b]))
        if int(coder.escape[b]) != len(found):
            raise BitstreamError(
                f"damaged stream: {len(found)} escape values, {coder.escape[b]} were announced"
            )
    return symbols


def _stacked(rows: list[np.ndarray], kind: type) -> np.ndarray:
    """[B,.]: rows filled up with zeros to a power of two."""
    out = np.zeros((len(rows), _power_of_two(max(256, *(len(r) for r in rows)))), kind)
    for b, row in enumerate(rows):
        out[b, : len(row)] = row
    return out


def _loop(
    params: FrozenModel,
    source: Source,
    streams: _Streams | None,
    carry: Any,
    y: Sequence[np.ndarray],
    psi: Sequence[np.ndarray],
    codes: Sequence[int],
) -> tuple[Any, list[Symbols]]:
    """All wavefronts, in chunks: (what the source carries, the symbols of each picture)."""
    config, cpu = params.config, jax.devices("cpu")[0]
    shapes = [p.shape[:2] for p in psi]
    plan = _plan(shapes)
    steps, room = plan.rows.shape
    network = jax.device_put(params.network, cpu)
    with jax.default_device(cpu):
        constants = jax.device_put((_rates(params, codes), streams), cpu)
        history = np.zeros((_BACK, plan.height, config.M), np.float32)
        found: list[tuple] = []
        for begin in range(0, steps, _CHUNK):
            part = slice(begin, begin + _CHUNK)
            size = _power_of_two(max(16, min(_CHUNK, steps - begin)))
            chunk = _Steps(
                *(_filled(a[part], size) for a in (plan.rows, plan.picture, plan.bounds)),
                *(_arranged(a, plan, part, (size, room)) for a in (psi, y)),
            )
            count = min(_CHUNK, steps - begin)
            room_ahead = np.zeros((size, *history.shape[1:]), np.float32)
            history = np.concatenate([history, room_ahead])
            result = _run(source, config, network, constants, history, carry, chunk, count)
            carry, *outputs = result[1:]
            history = np.asarray(result[0])[count : count + _BACK]
            found.append([np.asarray(a)[:count] for a in outputs])
    index, q, mu = (np.concatenate(parts) for parts in zip(*found, strict=True))
    symbols = []
    for b, shape in enumerate(shapes):
        at = plan.at[b], plan.slot[b]
        means = np.asarray(hyper_synthesis.mu_of(params.network, mu[at]))
        parts = (_raster(a, plan.order[b], shape) for a in (q[at], index[at], means))
        symbols.append(Symbols(*parts))
    return carry, symbols


def _rates(params: FrozenModel, codes: Sequence[int]) -> _Rates:
    entries = np.array(codes, np.int32)
    return _Rates(
        code=entries,
        step=np.array([integer_context.step_integer(c) for c in codes], np.int32),
        qstep=np.array([qstep_of(c) for c in codes], np.float32),
        bias=params.network.layers[3].bias[integer_context.step_row(entries)],
        offsets=np.asarray(params.offsets)[entries - QSTEP_CODE_MIN].astype(np.int32),
    )


def _filled(a: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([a, np.repeat(a[-1:], size - len(a), axis=0)])


def _arranged(
    pictures: Sequence[np.ndarray], plan: _Plan, part: slice, shape: tuple[int, int]
) -> np.ndarray:
    """The samples of wavefronts `part`: pictures [h,w,C] -> [*shape,C]."""
    out = np.zeros((*shape, pictures[0].shape[2]), pictures[0].dtype)
    places = zip(pictures, plan.order, plan.at, plan.slot, strict=True)
    for picture, chosen, at, slot in places:
        low, high = np.searchsorted(at, (part.start, part.stop))
        flat = picture.reshape(len(at), picture.shape[2])
        out[at[low:high] - part.start, slot[low:high]] = flat[chosen[low:high]]
    return out


def _raster(values: np.ndarray, positions: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """[h*w,C] at positions in the order of coding -> [h,w,C]."""
    out = np.empty_like(values)
    out[positions] = values
    return out.reshape(*shape, -1)
