"""The state of a training run, and how gradients change it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jvrc.training import optimizer, outliers
from jvrc.training.recipe import Recipe


class State(NamedTuple):
    """All that a training step changes; its buffers are donated to the step."""

    step: Array  # int32 [], training steps done
    params: dict
    ema: dict  # exponential moving average of params: what is validated and frozen
    opt_state: optax.OptState
    norms: outliers.Norms  # of recent gradients


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
    return State(
        jnp.int32(recipe.first_step),
        params,
        ema,
        optimizer_of(recipe).init(params),
        outliers.no_norms(),
    )


def apply_gradients(
    recipe: Recipe, state: State, grads: dict, norm: Array | None = None
) -> tuple[State, dict[str, Array]]:
    """Return the state after one update of the optimiser and of the moving average, and a report.

    An outlier changes neither parameters nor optimiser; the report has `skipped`, 1 or 0, and
    `gradient_norm`. norm: by which outliers are told, if that of the gradient varies with what is
    drawn.
    """
    length = optax.tree.norm(grads)
    good, norms = outliers.record(state.norms, length if norm is None else norm)
    updates, opt_state = optimizer_of(recipe).update(grads, state.opt_state, state.params)

    def kept(new: Any, old: Any) -> Any:
        return jax.tree.map(lambda a, b: jnp.where(good, a, b), new, old)

    params = kept(optax.apply_updates(state.params, updates), state.params)
    # the average is short at first, so that it soon forgets the initial parameters
    decay = jnp.minimum(recipe.ema_decay, (1 + state.step) / (10 + state.step))
    ema = jax.tree.map(lambda e, p: e + (1 - decay) * (p - e), state.ema, params)
    opt_state = kept(opt_state, state.opt_state)
    report = {"gradient_norm": length, "skipped": jnp.asarray(~good, jnp.float32)}
    return State(state.step + 1, params, ema, opt_state, norms), report
