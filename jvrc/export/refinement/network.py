"""The networks of scale refinement in floating point, as they are trained.

They compute what jvrc.integer.scale_refinement does, but for the rounding, at the symbols of one
step alone. A step's parameters are a dict of arrays; H: channels of the hidden layer.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jvrc.export.refinement.bits import bits_between
from jvrc.integer.hyper_synthesis import INDEX_COUNT
from jvrc.integer.scale_refinement import MAGNITUDE_MAX, REACH
from jvrc.model import jvrc2026

# What enters the hidden layer: index / INDEX_UNIT - 1, code / CODE_UNIT - CODE_CENTRE.
INDEX_UNIT, CODE_UNIT, CODE_CENTRE = 30, 64, 0.25
OUT_UNIT = 4  # scale indices to a unit of the results
_FEW_BITS = 100.0  # added to the bits of a crop, so that crops with few count little

Params = dict[str, Array]


class Sample(NamedTuple):
    """The symbols of a crop, or of several [B,...]."""

    magnitude: np.ndarray  # uint8 [h,w,M], |q| up to bits.LARGEST
    index: np.ndarray  # uint8 [h,w,M]: scale indices
    code: np.ndarray  # int32 [], see scale_refinement.coarse_code


class StepOutput(NamedTuple):
    """What a step's network says of the symbols of a group of channels, each [B,h/2,w/2,M/4]."""

    change: Array  # float, of the scale index
    index: Array  # int32
    magnitude: Array  # int32


def new_params(m: int, hidden: int, step: int, seed: int) -> Params:
    """Return the parameters of a step's network; at first it changes nothing."""
    scores, indices = jax.random.split(jax.random.fold_in(jax.random.key(seed), step))
    side, scale = 2 * REACH + 1, m**-0.5
    first = 0.5 * scale if step else 0.0  # there are no scores in the first step
    return {
        "from_score": first * jax.random.normal(scores, (m, hidden)),
        "from_index": 0.3 * scale * jax.random.normal(indices, (m, hidden)),
        "from_code": jnp.zeros((1, hidden)),
        "hidden_bias": jnp.zeros(hidden),
        "out": jnp.zeros((hidden, m)),
        "out_code": jnp.zeros((1, m)),
        "out_bias": jnp.zeros(m),
        "around": jnp.zeros((side, side, m)),
        "by_index": jnp.zeros(INDEX_COUNT),
    }


def loss(step: int, params: Params, batch: Sample, score: Array, cost: Array) -> Array:
    """Return the bits of a step's symbols over those without refinement, mean of a batch.

    score: float [90,16], in bits by scale index. cost: see bits.costs_of.
    """
    plain = after = jnp.zeros(len(batch.code))
    for found in evaluate(step, params, batch, score):
        at_index = found.index.astype(jnp.float32)
        plain += jnp.sum(cost[found.index, found.magnitude], axis=(1, 2, 3))
        after += jnp.sum(
            bits_between(cost, at_index + found.change, found.magnitude), axis=(1, 2, 3)
        )
    return jnp.mean((after + _FEW_BITS) / (plain + _FEW_BITS))


def evaluate(step: int, params: Params, batch: Sample, score: Array) -> Iterator[StepOutput]:
    """Yield what a step's network says, for each group of channels."""
    m, (height, width) = batch.index.shape[-1], batch.index.shape[1:3]
    seen, hidden = hidden_layer(step, params, batch, score)
    code = _centred(batch.code)
    padded = jnp.pad(seen, ((0, 0), (REACH, REACH), (REACH, REACH), (0, 0)))
    for group in range(jvrc2026.STEPS):
        row, column = np.argwhere(jvrc2026.step_numbers(4, 2, 2)[..., group] == step)[0]
        own = slice(m * group // 4, m * (group + 1) // 4)
        here = (slice(None), slice(row, None, 2), slice(column, None, 2))
        out = hidden[here] @ params["out"][:, own] + code @ params["out_code"][:, own]
        out = out + params["out_bias"][None, None, None, own]
        for i, j in np.ndindex(2 * REACH + 1, 2 * REACH + 1):
            near = padded[:, row + i :: 2, column + j :: 2, own][:, : height // 2, : width // 2]
            out = out + near * params["around"][i, j, own][None, None, None]
        index, magnitude = (
            a[here][..., own].astype(jnp.int32) for a in (batch.index, batch.magnitude)
        )
        yield StepOutput(OUT_UNIT * (out + params["by_index"][index]), index, magnitude)


def hidden_layer(step: int, params: Params, batch: Sample, score: Array) -> tuple[Array, Array]:
    """Return (the scores that the step sees [B,h,w,M], the hidden layer [B,h,w,H])."""
    earlier = jvrc2026.step_numbers(batch.index.shape[-1], *batch.index.shape[1:3]) < step
    magnitude = jnp.minimum(batch.magnitude.astype(jnp.int32), MAGNITUDE_MAX)
    seen = jnp.where(earlier[None], score[batch.index.astype(jnp.int32), magnitude], 0.0)
    index = batch.index.astype(jnp.float32) / INDEX_UNIT - 1
    x = seen @ params["from_score"] + index @ params["from_index"]
    x = x + _centred(batch.code) @ params["from_code"] + params["hidden_bias"][None, None, None]
    return seen, jax.nn.relu(x)


def _centred(code: Array) -> Array:
    """Return coarse codes [B] in -0.25 ... 1.25: [B,1,1,1]."""
    return (code.astype(jnp.float32) / CODE_UNIT - CODE_CENTRE)[:, None, None, None]
