"""The state of a training run, and how gradients change it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jvrc.training.loss import outliers
from jvrc.training.recipe.schema import Recipe
from jvrc.training.update import optimizer


class State(NamedTuple):
    """All that a training step changes; its buffers are donated to the step."""

    step: Array  # int32 [], training steps done
    params: dict
    ema: dict  # exponential moving average of params: what is validated and frozen
    opt_state: optax.OptState
    norms: outliers.Norms  # of recent gradients
    progress: Array  # float32 [], fraction of the schedule done, if it goes by the clock
    seconds: Array  # float32 [], that the run has taken, all its calls together
    seed: Array  # int32 [], of crops and noise; no part of programs, so that runs share them


def optimizer_of(recipe: Recipe) -> optax.GradientTransformation:
    """Return the recipe's optimiser, for a learning rate of one."""
    return optimizer.make_optimizer(
        recipe.optimizer,
        weight_decay=recipe.weight_decay,
        adam_parts=optimizer.adam_parts(recipe.config(), recipe.optimizer),
        fixed=recipe.fixed_parts(),
    )


def init_state(recipe: Recipe, params: dict) -> State:
    """Return the state before the first training step."""
    params, ema = (jax.tree.map(jnp.array, params) for _ in range(2))  # copies: steps donate
    opt_state, norms = optimizer_of(recipe).init(params), outliers.no_norms()
    zero, seed = jnp.float32(0), jnp.asarray(seed_of(recipe))
    return State(jnp.int32(0), params, ema, opt_state, norms, zero, zero, seed)


def seed_of(recipe: Recipe) -> np.int32:
    """Return the seed of crops and noise as the state holds it."""
    return np.int64(recipe.run_seed()).astype(np.int32)


def learning_rate(recipe: Recipe, state: State) -> Array:
    """Return the learning rate [] of the next update."""
    steps = None if recipe.minutes else recipe.steps
    fraction = state.progress if recipe.minutes else state.step / recipe.steps
    return optimizer.learning_rate(
        jnp.asarray(fraction, jnp.float32),
        recipe.learning_rate,
        warmup=optimizer.warmup_fraction(recipe.warmup, steps),
        final_fraction=recipe.final_lr_fraction,
    )


def apply_gradients(
    recipe: Recipe, state: State, grads: dict, norm: Array | None = None
) -> tuple[State, dict[str, Array]]:
    """Return the state after one update of the optimiser and of the moving average, and a report.

    An outlier changes neither parameters nor optimiser; the report has `skipped`, 1 or 0,
    `gradient_norm` and `learning_rate`. norm: by which outliers are told, if that of the gradient
    varies with what is drawn.
    """
    length = optax.tree.norm(grads)
    good, norms = outliers.record(state.norms, length if norm is None else norm)
    updates, opt_state = optimizer_of(recipe).update(grads, state.opt_state, state.params)
    rate = learning_rate(recipe, state)
    updates = jax.tree.map(lambda u: rate * u, updates)

    def kept(new: Any, old: Any) -> Any:
        return jax.tree.map(lambda a, b: jnp.where(good, a, b), new, old)

    params = kept(optax.apply_updates(state.params, updates), state.params)
    # the average is short at first, so that it soon forgets the initial parameters
    decay = jnp.minimum(recipe.ema_decay, (1 + state.step) / (10 + state.step))
    ema = jax.tree.map(lambda e, p: e + (1 - decay) * (p - e), state.ema, params)
    opt_state = kept(opt_state, state.opt_state)
    report = {"gradient_norm": length, "skipped": jnp.asarray(~good, jnp.float32)}
    after = state._replace(step=state.step + 1, params=params, ema=ema)
    return after._replace(opt_state=opt_state, norms=norms), report | {"learning_rate": rate}
