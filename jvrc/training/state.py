"""The state of a training run, and how gradients change it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jvrc.training import optimizer
from jvrc.training.recipe import PostRecipe, Recipe


class State(NamedTuple):
    """All that changes; donated to each step."""

    step: Array  # int32 []
    params: dict
    ema: dict  # exponential moving average of params: what is validated and shipped
    opt_state: optax.OptState


def rule_of(recipe: Recipe | PostRecipe) -> optax.GradientTransformation:
    """The recipe's optimiser with its schedule."""
    rate = optimizer.schedule(
        recipe.learning_rate,
        recipe.steps,
        warmup=recipe.warmup,
        final=recipe.final_rate,
        begin=recipe.begin,
    )
    return optimizer.make_optimizer(recipe.optimizer, rate)


def init_state(recipe: Recipe | PostRecipe, params: dict) -> State:
    """The state before the first step."""
    params, ema = (jax.tree.map(jnp.array, params) for _ in range(2))  # copies: steps donate
    return State(jnp.int32(recipe.begin), params, ema, rule_of(recipe).init(params))


def apply_gradients(recipe: Recipe | PostRecipe, state: State, grads: dict) -> State:
    """One update of the optimiser and of the average."""
    updates, opt_state = rule_of(recipe).update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    # a short average at first, so that the start does not linger in it
    decay = jnp.minimum(recipe.ema, (1 + state.step) / (10 + state.step))
    ema = jax.tree.map(lambda e, p: e + (1 - decay) * (p - e), state.ema, params)
    return State(state.step + 1, params, ema, opt_state)
