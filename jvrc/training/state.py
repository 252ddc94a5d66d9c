"""The state of a training run, and how gradients change it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jvrc.training import optimizer
from jvrc.training.recipe import Recipe


class State(NamedTuple):
    """All that a training step changes; its buffers are donated to the step."""

    step: Array  # int32 [], training steps done
    params: dict
    ema: dict  # exponential moving average of params: what is validated and frozen
    opt_state: optax.OptState


def optimizer_of(recipe: Recipe) -> optax.GradientTransformation:
    """Return the recipe's optimiser with its schedule of learning rates."""
    learning_rate = optimizer.schedule(
        recipe.learning_rate,
        recipe.steps,
        warmup=recipe.warmup,
        final_fraction=recipe.final_lr_fraction,
        first_step=recipe.first_step,
    )
    return optimizer.make_optimizer(
        recipe.optimizer,
        learning_rate,
        weight_decay=recipe.weight_decay,
        adam_parts=optimizer.adam_parts(recipe.config()),
        fixed=recipe.fixed_parts(),
    )


def init_state(recipe: Recipe, params: dict) -> State:
    """Return the state before the first training step."""
    params, ema = (jax.tree.map(jnp.array, params) for _ in range(2))  # copies: steps donate
    return State(jnp.int32(recipe.first_step), params, ema, optimizer_of(recipe).init(params))


def apply_gradients(recipe: Recipe, state: State, grads: dict) -> State:
    """Return the state after one update of the optimiser and of the moving average."""
    updates, opt_state = optimizer_of(recipe).update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    # the average is short at first, so that it soon forgets the initial parameters
    decay = jnp.minimum(recipe.ema_decay, (1 + state.step) / (10 + state.step))
    ema = jax.tree.map(lambda e, p: e + (1 - decay) * (p - e), state.ema, params)
    return State(state.step + 1, params, ema, opt_state)
