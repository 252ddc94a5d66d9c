"""What the training loop asks of a training method: `SingleRate` and `MultiRate` are two."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from jax import Array
from jax.sharding import Mesh

from jvrc.training.recipe.schema import Recipe
from jvrc.training.update.state import State

# (state, uint8 [B,crop,crop,3]) -> (state, values to report: scalars, or one for each rate [K])
Step = Callable[[State, Array], tuple[State, dict[str, Array]]]


class Method(Protocol):
    """How a recipe trains a model."""

    @property
    def recipe(self) -> Recipe: ...

    def first_params(self, images: Sequence[np.ndarray], init: dict | None = None) -> dict:
        """Return the parameters before the first training step.

        They are those of `init`, or else newly initialised ones, and what only training needs.
        """
        ...

    def make_step(self, mesh: Mesh) -> Step:
        """Return one training step, not jitted; ValueError if the mesh does not divide the work."""
        ...

    def validation_qsteps(self) -> tuple[float, ...]:
        """Return the quantisation steps at which the held-out images are coded."""
        ...
