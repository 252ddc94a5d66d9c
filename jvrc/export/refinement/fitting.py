"""Fit the scale refinement of a frozen jvrc2026 to photographs.

The networks are trained in floating point, on the symbols that the frozen model makes of crops, to
minimise the bits of its own CDF tables, which are interpolated between scale indices; then they are
rounded to integers. Neither symbols nor images change, so nothing else of the model has to follow.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from jvrc.codec.latent_coders.by_architecture import coder_of
from jvrc.codec.transforms.latents import analyse, quantise_z
from jvrc.coding.tile_grid import BLOCK
from jvrc.export.refinement.bits import LARGEST, SCORE_UNIT, costs_of, scores_of
from jvrc.export.refinement.network import Params, Sample, loss, new_params
from jvrc.export.refinement.rounding import to_integers
from jvrc.frozen.file import seal
from jvrc.frozen.model import FrozenModel
from jvrc.integer import scale_refinement
from jvrc.model import jvrc2026
from jvrc.model.config import Jvrc2026Config
from jvrc.qstep import qstep_code_of

CROP = 8  # blocks a side
_QSTEPS = 5  # of each crop, drawn
_BATCH = 8
_PEAK, _WARM_UP = 5e-3, 1 / 20  # learning rate, and the share of the steps in which it rises


def refined(
    model: FrozenModel,
    images: Iterable[np.ndarray],
    *,
    hidden: int,
    training_steps: int,
    seed: int = 0,
) -> FrozenModel:
    """Return the model with a scale refinement fitted to images, uint8 [H,W,3]; its id stays.

    hidden: channels of the hidden layers. training_steps: those of all four networks together.

    Raises:
      ValueError: the model is not of the architecture jvrc2026, or no image has CROP blocks a side.
    """
    if not isinstance(model.config, Jvrc2026Config):
        raise ValueError(
            f"scales are refined in models of jvrc2026; this one is of {model.config.architecture}"
        )
    samples = list(_samples(model, images, np.random.default_rng(seed)))
    if not samples:
        raise ValueError(f"images must have {CROP * BLOCK} pixels a side at least; none has")
    cost = costs_of(model.y_tables)
    params = trained(cost, samples, hidden=hidden, training_steps=training_steps, seed=seed)
    return seal(replace(model, refinement=to_integers(params, scores_of(cost), samples)))


def _samples(
    model: FrozenModel, images: Iterable[np.ndarray], rng: np.random.Generator
) -> Iterator[Sample]:
    """Yield a crop of each image that has one, at several qsteps."""
    side, (low, high) = CROP * BLOCK, model.metadata["qstep_range"]
    for img in tqdm(images, desc="analysing", unit="img"):
        if min(img.shape[:2]) < side:
            continue
        top, left = (rng.integers(n - side + 1) for n in img.shape[:2])
        y, z = analyse(model, img[top : top + side, left : left + side])
        for qstep in np.exp(rng.uniform(np.log(low), np.log(high), _QSTEPS)):
            code = qstep_code_of(float(qstep))
            found = coder_of(model, quantise_z(model, z, code), code).quantise(y)
            magnitude = np.minimum(np.abs(found.y), LARGEST).astype(np.uint8)
            yield Sample(magnitude, found.index, np.int32(scale_refinement.coarse_code(code)))


def trained(
    cost: np.ndarray, samples: list[Sample], *, hidden: int, training_steps: int, seed: int = 0
) -> list[Params]:
    """Return the float networks of the four steps, trained in turn by Adam.

    cost: see bits.costs_of.
    """
    import optax

    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())
    m = samples[0].index.shape[-1]
    params = [new_params(m, hidden, step, seed) for step in range(jvrc2026.STEPS)]
    states = [optimizer.init(p) for p in params]
    score, cost = jnp.asarray(scores_of(cost) * np.float32(SCORE_UNIT)), jnp.asarray(cost)

    @partial(jax.jit, static_argnums=0)
    def update(
        step: int, params: Params, state: tuple, batch: Sample, learning_rate: jax.Array
    ) -> tuple:
        value, gradient = jax.value_and_grad(loss, argnums=1)(step, params, batch, score, cost)
        change, state = optimizer.update(gradient, state)
        return jax.tree.map(lambda a, b: a - learning_rate * b, params, change), state, value

    rng, values = np.random.default_rng(seed), []
    with tqdm(range(training_steps), desc="fitting", unit="step") as bar:
        for i in bar:
            step = i % jvrc2026.STEPS
            chosen = [samples[j] for j in rng.integers(len(samples), size=_BATCH)]
            batch = Sample(*(np.stack(parts) for parts in zip(*chosen, strict=True)))
            learning_rate = np.float32(_learning_rate(i / training_steps))
            params[step], states[step], value = update(
                step, params[step], states[step], batch, learning_rate
            )
            values.append(value)
            if len(values) == 100:
                bar.set_postfix({"bits": f"{np.mean(values):.2%}"})
                values = []
    return jax.device_get(params)


def _learning_rate(done: float) -> float:
    """Return the learning rate when that share is done: a rise, then half a cosine to zero."""
    if done < _WARM_UP:
        return _PEAK * done / _WARM_UP
    return _PEAK * (1 + math.cos(math.pi * (done - _WARM_UP) / (1 - _WARM_UP))) / 2
