"""The loop of mbt2018 over wavefronts: context model, entropy parameters and range coder together.

Encoder and decoder are the same function but for where its symbols come from: rounded latents, or
the range coder. The loop runs in chunks, with the last eight wavefronts and the coder's state
carried over. Shapes are rounded up to powers of two, so that a new image size seldom compiles anew.
All of it runs on the CPU backend: its float32 products are exact on integers.
"""

from collections.abc import Callable
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

    rows: Array  # see wavefront_order.Plan, likewise the next one
    used: Array
    psi: Array  # int32 [T,P,10M/3], see jvrc.integer.context.psi_part
    y: Array  # float32 [T,P,M]; the decoder has none: [T,P,0]


class QstepConstants(NamedTuple):
    """What the qstep code determines: [] and integers unless said."""

    code: Array
    step: Array  # Delta in units of 2**-10
    qstep: Array  # Delta, float32
    bias: Array  # [2M] of the context
    offsets: Array  # [90] in units of 1/512


class DecoderState(NamedTuple):
    """The range decoder between two wavefronts."""

    state: Array  # uint32 [MAX_LANES]
    lane: Array  # int32 []
    position: Array  # int32 []: words taken
    escape: Array  # int32 []: escape values taken


class Coded(NamedTuple):
    """What the decoder reads: a stream and the tables."""

    words: Array  # uint16 [.]
    escapes: Array  # int32 [.]
    lanes: Array  # int32 []
    tables: tuple  # first, starts, packed, buckets of range_coder.Prepared
    low: Array  # int32 [tables]: the value of a table's first symbol
    index_shift: Array  # int32 [M], see jvrc.coding.scale_adaptation


class Inputs(NamedTuple):
    """What one wavefront's symbols are made from."""

    constants: QstepConstants
    coded: Coded | None
    at: Steps  # of this wavefront alone: [P,…]
    index: Array  # uint8 [P,M]
    mu: Array  # float32 [P,M]


Source = Callable[[Any, Inputs], tuple[Any, Array]]  # (carry, inputs) -> (carry, q int32 [P,M])


def rounded(carry: Any, inputs: Inputs) -> tuple[Any, Array]:
    """Return the encoder's symbols round((y - mu) / Delta)."""
    v, limit = (inputs.at.y - inputs.mu) / inputs.constants.qstep, float(escapes.LIMIT)
    return carry, jnp.round(jnp.clip(v, -limit, limit)).astype(jnp.int32)


def decoded(carry: DecoderState, inputs: Inputs) -> tuple[DecoderState, Array]:
    """Return the decoder's symbols, from the range coder: one after another."""
    _, coded, at_wavefront, index, _ = inputs
    first, *lookup = coded.tables
    count = at_wavefront.used * index.shape[1]
    tables = scale_adaptation.apply(index, coded.index_shift[None], len(coded.low)).ravel()
    at = partial(jnp.take, axis=0, mode="clip")

    def step(i: Array, c: tuple) -> tuple:
        # x is read after the last write of `state`, else XLA copies `state` in every step
        x, state, lane, position, escape, values = c
        table = tables[i].astype(jnp.int32)
        x, symbol = rans.decode_step(x, table.astype(jnp.uint32) << 16, *lookup)
        x, need = rans.refill(x, at(coded.words, position))
        state = lax.dynamic_update_index_in_dim(state, x, lane, 0)
        lane = (lane + 1) & (coded.lanes - 1)
        outside = symbol + 1 == first[table + 1]
        value = symbol - first[table] + coded.low[table]
        value = jnp.where(outside, at(coded.escapes, escape), value)
        values = lax.dynamic_update_index_in_dim(values, value, i, 0)
        position, escape = position + need.astype(jnp.int32), escape + outside.astype(jnp.int32)
        return state[lane], state, lane, position, escape, values

    begun = (carry.state[carry.lane], *carry, jnp.zeros(index.size, jnp.int32))
    _, *coder, values = lax.fori_loop(0, count, step, begun)
    return DecoderState(*coder), values.reshape(index.shape)


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
    given: tuple[QstepConstants, Coded | None],
    history: Array,
    carry: Any,
    steps: Steps,
    count: Array,
) -> tuple:
    """Run `count` wavefronts: (history, carry, index uint8, q, mu int32: [T,P,M] each)."""
    constants, coded = given
    weights = arithmetic.matrices(network)
    total, slots = steps.rows.shape

    def step(t: Array, c: tuple) -> tuple:
        history, carry, *outputs = c
        at = jax.tree.map(lambda a: a[t], steps)
        seen, bias = _seen(history, t, at.rows), constants.bias
        log_sigma, mu = arithmetic.parameters(config, network, weights, seen, at.psi, bias)
        index = hyper_synthesis.scale_index(log_sigma, constants.code)
        inputs = Inputs(constants, coded, at, index, arithmetic.mu_of(network, mu))
        carry, q = source(carry, inputs)
        delta = constants.offsets[index.astype(jnp.int32)]
        latents = arithmetic.seen_latents(network, q, mu, delta, constants.step)
        used = jnp.arange(slots) < at.used
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
    coded: Coded | None,
    y: np.ndarray,
    psi: np.ndarray,
    qstep_code: int,
    *,
    arithmetic: Arithmetic = INTEGER,
) -> tuple[Any, Symbols]:
    """Run all wavefronts: (what the source carries, the symbols).

    y: float32 [h,w,M], or [h,w,0] where the source does without. psi: int32 [h,w,10M/3].
    """
    cpu, shape = devices.cpu(), psi.shape[:2]
    layout = plan(*shape)
    network = jax.device_put(model.network, cpu)
    found: list[list[np.ndarray]] = []
    with jax.default_device(cpu):
        given = jax.device_put((_constants(model, qstep_code), coded), cpu)
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
        at = layout.wavefront, layout.slot
        index, q, mu = (np.concatenate(parts)[at] for parts in zip(*found, strict=True))
        means = np.asarray(arithmetic.mu_of(network, mu))
    return carry, Symbols(*(to_raster(a, layout.order, shape) for a in (q, index, means)))


def _chunk(layout: Plan, psi: np.ndarray, y: np.ndarray, begin: int) -> tuple[Steps, int]:
    """Return (the steps from wavefront `begin` on, filled up; how many of them count)."""
    total, slots = layout.rows.shape
    part, count = slice(begin, begin + _CHUNK), min(_CHUNK, total - begin)
    size = power_of_two(max(16, count))
    rows = (_filled(a[part], size) for a in (layout.rows, layout.used))
    samples = (arranged(a, layout, part, (size, slots)) for a in (psi, y))
    return Steps(*rows, *samples), count


def _filled(a: np.ndarray, size: int) -> np.ndarray:
    """Repeat the last row up to `size` rows."""
    return np.concatenate([a, np.repeat(a[-1:], size - len(a), axis=0)])


def _constants(model: FrozenModel, qstep_code: int) -> QstepConstants:
    return QstepConstants(
        code=np.int32(qstep_code),
        step=np.int32(context.qstep_integer(qstep_code)),
        qstep=np.float32(qstep_of(qstep_code)),
        bias=model.network.context.conv.bias[context.bias_row(qstep_code)],
        offsets=np.asarray(model.offsets)[qstep_row(qstep_code)].astype(np.int32),
    )
