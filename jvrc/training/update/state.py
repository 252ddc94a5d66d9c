"""The state of a training run, and how gradients change it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jvrc.training.loss import outliers
from jvrc.training.recipe.schema import Recipe
from jvrc.training.update import optimizer
from jvrc.training.update.settings import Settings, settings_of


class State(NamedTuple):
    """All that a training step changes; its buffers are donated to the step."""

    step: Array  # int32 [], training steps done
    params: dict
    ema: dict  # exponential moving average of params: what is validated and frozen
    opt_state: optax.OptState
    norms: outliers.Norms  # of recent gradients
    progress: Array  # float32 [], fraction of the schedule done, if it goes by the clock
    seconds: Array  # float32 [], that the run has taken, all its calls together
    settings: Settings  # numbers of the recipe; no part of checkpoints


def optimizer_of(recipe: Recipe, settings: Settings) -> optax.GradientTransformation:
    """Return the recipe's optimiser, for a learning rate of one."""
    return optimizer.make_optimizer(
        recipe.optimizer,
        weight_decay=settings.weight_decay,
        adam_parts=optimizer.adam_parts(recipe.config(), recipe.optimizer),
        fixed=recipe.fixed_parts(),
    )


def init_state(recipe: Recipe, params: dict) -> State:
    """Return the state before the first training step."""
    params, ema = (jax.tree.map(jnp.array, params) for _ in range(2))  # copies: steps donate
    settings, zero = jax.tree.map(jnp.asarray, settings_of(recipe)), jnp.float32(0)
    opt_state = optimizer_of(recipe, settings).init(params)
    return State(jnp.int32(0), params, ema, opt_state, outliers.no_norms(), zero, zero, settings)


def learning_rate(recipe: Recipe, state: State) -> Array:
    """Return the learning rate [] of the next update."""
    settings = state.settings
    fraction = state.progress if recipe.minutes else state.step / settings.steps
    return optimizer.learning_rate(
        fraction,
        settings.learning_rate,
        warmup=settings.warmup,
        final_fraction=settings.final_lr_fraction,
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
    rule = optimizer_of(recipe, state.settings)
    updates, opt_state = rule.update(grads, state.opt_state, state.params)
    rate = learning_rate(recipe, state)
    updates = jax.tree.map(lambda u: rate * u, updates)

    def kept(new: Any, old: Any) -> Any:
        return jax.tree.map(lambda a, b: jnp.where(good, a, b), new, old)

    params = kept(optax.apply_updates(state.params, updates), state.params)
    # the average is short at first, so that it soon forgets the initial parameters
    decay = jnp.minimum(state.settings.ema_decay, (1 + state.step) / (10 + state.step))
    ema = jax.tree.map(lambda e, p: e + (1 - decay) * (p - e), state.ema, params)
    opt_state = kept(opt_state, state.opt_state)
    report = {"gradient_norm": length, "skipped": jnp.asarray(~good, jnp.float32)}
    after = state._replace(step=state.step + 1, params=params, ema=ema)
    return after._replace(opt_state=opt_state, norms=norms), report | {"learning_rate": rate}
