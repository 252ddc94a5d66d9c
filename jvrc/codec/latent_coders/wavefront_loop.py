"""The loop of mbt2018 over wavefronts: context model, entropy parameters and range coder together.

Encoder and decoder are the same function but for where its symbols come from: rounded latents, or
the range coder. The loop runs in chunks, with the last eight wavefronts and the coder's state
carried over. Shapes are rounded up to powers of two, so that a new image size seldom compiles anew.
All of it runs on the CPU backend: its float32 products are exact on integers.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jvrc.codec.latent_coders.wavefront_order import (
    LOOK_BACK,
    Plan,
    arranged,
    plan,
    power_of_two,
    to_raster,
)
from jvrc.codec.tiles.latent_coder import Symbols
from jvrc.coding import escapes, rans, scale_adaptation
from jvrc.frozen.model import FrozenModel
from jvrc.integer import context, hyper_synthesis
from jvrc.integer.network import Network
from jvrc.model.config import Config
from jvrc.qstep import qstep_of, qstep_row
from jvrc.runtime import devices
from jvrc.runtime.programs import stored

_CHUNK = 256  # wavefronts, at most


class Arithmetic(NamedTuple):
    """The networks that the loop runs; static. Integers, or floats to compare with."""

    matrices: Callable  # see jvrc.integer.context, likewise the next two
    parameters: Callable
    seen_latents: Callable
    mu_of: Callable  # see jvrc.integer.hyper_synthesis


INTEGER = Arithmetic(
    context.matrices, context.parameters, context.seen_latents, hyper_synthesis.mu_of
)


class Steps(NamedTuple):
    """What the loop reads at each wavefront: [T,…]."""

    rows: Array  # see wavefront_order.Plan, likewise the next two
    image: Array
    bounds: Array
    psi: Array  # int32 [T,P,10M/3], see jvrc.integer.context.psi_part
    y: Array  # float32 [T,P,M]; the decoder has none: [T,P,0]


class QstepConstants(NamedTuple):
    """What the qstep code of each image determines: [B,…], integers unless said."""

    code: Array
    step: Array  # Delta in units of 2**-10
    qstep: Array  # Delta, float32
    bias: Array  # [B,2M] of the context
    offsets: Array  # [B,90] in units of 1/512


class Coder(NamedTuple):
    """The decoder's state, for each image."""

    state: Array  # uint32 [B,MAX_LANES]
    lane: Array  # int32 [B]
    position: Array  # int32 [B]: words taken
    escape: Array  # int32 [B]: escape values taken


class Streams(NamedTuple):
    """What the decoder reads: the streams of a batch and the tables."""

    words: Array  # uint16 [B,.]
    escapes: Array  # int32 [B,.]
    lanes: Array  # int32 [B]
    tables: tuple  # first, starts, packed, buckets of range_coder.Prepared
    low: Array  # int32 [tables]: the value of a table's first symbol
    index_shift: Array  # int32 [B,M], see jvrc.coding.scale_adaptation


class Inputs(NamedTuple):
    """What one wavefront's symbols are made from."""

    constants: QstepConstants
    streams: Streams | None
    at: Steps  # of this wavefront alone: [P,…]
    index: Array  # uint8 [P,M]
    mu: Array  # float32 [P,M]


Source = Callable[[Any, Inputs], tuple[Any, Array]]  # (carry, inputs) -> (carry, q int32 [P,M])


def rounded(carry: Any, inputs: Inputs) -> tuple[Any, Array]:
    """Return the encoder's symbols round((y - mu) / Delta)."""
    at, limit = inputs.at, float(escapes.LIMIT)
    qstep = inputs.constants.qstep[at.image][:, None]
    return carry, jnp.round(jnp.clip((at.y - inputs.mu) / qstep, -limit, limit)).astype(jnp.int32)


def decoded(carry: Coder, inputs: Inputs) -> tuple[Coder, Array]:
    """Return the decoder's symbols, from the range coder: one after another, image by image."""
    _, streams, at, index, _ = inputs
    values = jnp.zeros(index.size, jnp.int32)
    table = scale_adaptation.apply(index, streams.index_shift[at.image], len(streams.low))
    flat, channels = table.ravel().astype(jnp.int32), index.shape[1]
    for b in range(at.bounds.shape[0] - 1):
        begin, end = at.bounds[b] * channels, at.bounds[b + 1] * channels
        carry, values = _decode_slots(streams, carry, b, begin, end, flat, values)
    return carry, values.reshape(index.shape)


def _decode_slots(
    streams: Streams, coder: Coder, b: int, begin: Array, end: Array, index: Array, values: Array
) -> tuple[Coder, Array]:
    """Decode values begin … end - 1 of one wavefront, all of image b."""
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
    return Coder(*put), c[5]


def _seen(history: Array, t: Array, rows: Array) -> tuple[Array, Array, Array]:
    """Return what each slot's context sees: [P,5M], [P,5M], [P,2M].

    history: [LOOK_BACK + T,R,M].
    """

    def taps(back: int, count: int, rows: Array) -> Array:
        size = (count, *history.shape[1:])
        block = lax.dynamic_slice(history, (t + LOOK_BACK - back, 0, 0), size)
        return jnp.moveaxis(jnp.take(block, rows, axis=1, mode="clip"), 0, 1).reshape(len(rows), -1)

    return taps(8, 5, rows - 2), taps(5, 5, rows - 1), taps(2, 2, rows)


@partial(stored, static_argnums=(0, 1, 2), donate_argnums=(5, 6))
def run_chunk(
    arithmetic: Arithmetic,
    source: Source,
    config: Config,
    network: Network,
    given: tuple[QstepConstants, Streams | None],
    history: Array,
    carry: Any,
    steps: Steps,
    count: Array,
) -> tuple:
    """Run `count` wavefronts: (history, carry, index uint8, q, mu int32: [T,P,M] each)."""
    constants, streams = given
    weights = arithmetic.matrices(network)
    total, slots = steps.rows.shape

    def step(t: Array, c: tuple) -> tuple:
        history, carry, *outputs = c
        at = jax.tree.map(lambda a: a[t], steps)
        of_slot = jax.tree.map(lambda a: a[at.image], constants)
        seen = _seen(history, t, at.rows)
        log_sigma, mu = arithmetic.parameters(config, network, weights, seen, at.psi, of_slot.bias)
        index = hyper_synthesis.scale_index(log_sigma, of_slot.code[:, None])
        inputs = Inputs(constants, streams, at, index, arithmetic.mu_of(network, mu))
        carry, q = source(carry, inputs)
        delta = jnp.take_along_axis(of_slot.offsets, index.astype(jnp.int32), axis=1)
        latents = arithmetic.seen_latents(network, q, mu, delta, of_slot.step[:, None])
        used = jnp.arange(slots) < at.bounds[-1]
        history = history.at[t + LOOK_BACK, at.rows].set(jnp.where(used[:, None], latents, 0))
        results = zip(outputs, (index, q, mu), strict=True)
        return (history, carry, *(lax.dynamic_update_index_in_dim(o, r, t, 0) for o, r in results))

    kinds = (jnp.uint8, jnp.int32, jnp.int32)
    outputs = [jnp.zeros((total, slots, config.M), kind) for kind in kinds]
    return lax.fori_loop(0, count, step, (history, carry, *outputs))


def run(
    model: FrozenModel,
    source: Source,
    carry: Any,
    streams: Streams | None,
    y: Sequence[np.ndarray],
    psi: Sequence[np.ndarray],
    qstep_codes: Sequence[int],
    *,
    arithmetic: Arithmetic = INTEGER,
) -> tuple[Any, list[Symbols]]:
    """Run all wavefronts of a batch: (what the source carries, the symbols of each image)."""
    cpu = devices.cpu()
    layout = plan([p.shape[:2] for p in psi])
    network = jax.device_put(model.network, cpu)
    found: list[list[np.ndarray]] = []
    with jax.default_device(cpu):
        given = jax.device_put((_constants(model, qstep_codes), streams), cpu)
        history = np.zeros((LOOK_BACK, layout.height, model.config.M), np.float32)
        for begin in range(0, len(layout.rows), _CHUNK):
            steps, count = _chunk(layout, psi, y, begin)
            ahead = np.zeros((len(steps.rows), *history.shape[1:]), np.float32)
            history = np.concatenate([history, ahead])
            result = run_chunk(
                arithmetic,
                source,
                model.config,
                network,
                given,
                history,
                carry,
                steps,
                np.int32(count),
            )
            carry, *outputs = result[1:]
            history = np.asarray(result[0])[count : count + LOOK_BACK]
            found.append([np.asarray(a)[:count] for a in outputs])
    index, q, mu = (np.concatenate(parts) for parts in zip(*found, strict=True))
    symbols = []
    for b, p in enumerate(psi):
        at = layout.wavefront[b], layout.slot[b]
        means = np.asarray(arithmetic.mu_of(model.network, mu[at]))
        parts = (q[at], index[at], means)
        symbols.append(Symbols(*(to_raster(a, layout.order[b], p.shape[:2]) for a in parts)))
    return carry, symbols


def _chunk(
    layout: Plan, psi: Sequence[np.ndarray], y: Sequence[np.ndarray], begin: int
) -> tuple[Steps, int]:
    """Return (the steps from wavefront `begin` on, filled up; how many of them count)."""
    total, slots = layout.rows.shape
    part, count = slice(begin, begin + _CHUNK), min(_CHUNK, total - begin)
    size = power_of_two(max(16, count))
    rows = (_filled(a[part], size) for a in (layout.rows, layout.image, layout.bounds))
    samples = (arranged(a, layout, part, (size, slots)) for a in (psi, y))
    return Steps(*rows, *samples), count


def _filled(a: np.ndarray, size: int) -> np.ndarray:
    """Repeat the last row up to `size` rows."""
    return np.concatenate([a, np.repeat(a[-1:], size - len(a), axis=0)])


def _constants(model: FrozenModel, qstep_codes: Sequence[int]) -> QstepConstants:
    rows = [qstep_row(code) for code in qstep_codes]
    codes = np.array(qstep_codes, np.int32)
    return QstepConstants(
        code=codes,
        step=np.array([context.qstep_integer(c) for c in qstep_codes], np.int32),
        qstep=np.array([qstep_of(c) for c in qstep_codes], np.float32),
        bias=model.network.context.conv.bias[context.bias_row(codes)],
        offsets=np.asarray(model.offsets)[rows].astype(np.int32),
    )
