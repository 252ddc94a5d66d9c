"""Numbers of a recipe that the state carries instead of the program.

A training step compiles for a minute; runs that differ in these numbers alone share its program.
"""

from typing import NamedTuple

import jax
import numpy as np
from jax import Array

from jvrc.training.recipe.schema import Recipe
from jvrc.training.update.optimizer import warmup_fraction


class Settings(NamedTuple):
    """Scalars, float32 but for the integers; the fields of the recipe by their names."""

    seed: Array  # int32, of crops and noise
    steps: Array  # int32, of the schedule; not used by a schedule by the clock
    learning_rate: Array
    warmup: Array  # fraction of the schedule
    final_lr_fraction: Array
    weight_decay: Array
    ema_decay: Array
    qstep_low: Array
    qstep_high: Array
    balance: Array


def settings_of(recipe: Recipe) -> Settings:
    """Return the settings of a recipe, as NumPy scalars."""
    low, high = recipe.qstep_range()
    values = Settings(
        seed=np.int64(recipe.run_seed()).astype(np.int32),
        steps=np.int32(recipe.steps),
        learning_rate=recipe.learning_rate,
        warmup=warmup_fraction(recipe.warmup, None if recipe.minutes else recipe.steps),
        final_lr_fraction=recipe.final_lr_fraction,
        weight_decay=recipe.weight_decay,
        ema_decay=recipe.ema_decay,
        qstep_low=low,
        qstep_high=high,
        balance=recipe.balance,
    )
    return jax.tree.map(lambda a: np.float32(a) if isinstance(a, int | float) else a, values)
