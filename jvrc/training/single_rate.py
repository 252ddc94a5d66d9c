"""The method of `jvrc train`: each crop at a quantisation step of its own, one balanced mean."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from jvrc.model.modules import init_params
from jvrc.model.residual import bfloat16_products
from jvrc.runtime import devices
from jvrc.training.data import batches
from jvrc.training.initialisation import klt
from jvrc.training.loss import objectives, outliers
from jvrc.training.method import Step
from jvrc.training.recipe.schema import SingleRateRecipe
from jvrc.training.run.parallel import check_divides
from jvrc.training.update.state import State, apply_gradients
from jvrc.training.validation.held_out import VALIDATION_QSTEPS

CALIBRATION_CROPS = 128
CALIBRATION_SIDE = 256  # pixels, at most


@dataclass(frozen=True)
class SingleRate:
    """Training of a base model."""

    recipe: SingleRateRecipe

    def first_params(self, images: Sequence[np.ndarray], init: dict | None = None) -> dict:
        """Return `init`, or parameters initialised as the recipe says."""
        return initial_params(self.recipe, images) if init is None else init

    def make_step(self, mesh: Mesh) -> Step:
        """Return one training step, not jitted; ValueError if the mesh does not divide the batch.

        It reports loss, bpp, PSNR (dB), the norm of the gradient, the share of crops whose weight
        is reduced, and whether the step was skipped: see jvrc.training.loss.outliers.
        """
        check_divides("batch", self.recipe.batch, mesh.shape["data"])
        return self._step

    def validation_qsteps(self) -> tuple[float, ...]:
        return VALIDATION_QSTEPS

    def _step(self, state: State, images: Array) -> tuple[State, dict[str, Array]]:
        recipe, settings = self.recipe, state.settings
        key = jax.random.fold_in(jax.random.key(settings.seed), state.step)
        k_noise, k_rate = jax.random.split(key)
        x = images.astype(jnp.float32) / 255
        low, high = settings.qstep_low, settings.qstep_high
        qstep = objectives.draw_qsteps(k_rate, x.shape[0], low, high)

        def loss(params: dict) -> tuple[Array, tuple]:
            params = objectives.stop_gradients(params, *recipe.fixed_parts())
            params = objectives.cast_transforms(params, jnp.dtype(recipe.transforms_dtype()))
            inputs = (params, x, qstep, k_noise, settings.balance)
            with bfloat16_products(recipe.rounds_products()):
                return objectives.training_loss(recipe.config(), *inputs)

        (_, (parts, weights)), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
        after, protection = apply_gradients(recipe, state, grads)
        return after, _report(parts, weights, qstep) | protection


def initial_params(recipe: SingleRateRecipe, images: Sequence[np.ndarray]) -> dict:
    """Return new parameters: random ones, or transforms fitted to crops of the images.

    The CPU computes them: so they are the same beside any accelerator, which compiles meanwhile.
    """
    with jax.default_device(devices.cpu()):
        config, key = recipe.config(), jax.random.key(recipe.seed)
        if recipe.initialisation == "random":
            return init_params(key, config)
        return klt.klt_params(key, config, calibration_crops(recipe, images))


def calibration_crops(recipe: SingleRateRecipe, images: Sequence[np.ndarray]) -> np.ndarray:
    """Return random crops [n,side,side,3] in [0,1], which initial parameters are fitted to."""
    shape = {"size": min(recipe.crop, CALIBRATION_SIDE), "count": CALIBRATION_CROPS}
    return batches.batch(images, recipe.seed, 2**31, **shape) / np.float32(255)


def _report(parts: objectives.Losses, weights: Array, qstep: Array) -> dict[str, Array]:
    losses = objectives.balanced(parts.rd, qstep)
    return {
        "loss": outliers.weighted_mean(weights, losses),  # without the auxiliary loss
        "bpp": jnp.mean(parts.bpp),
        "psnr": jnp.mean(-10 * jnp.log10(parts.mse)),
        "reduced_crops": jnp.mean(weights < 1, dtype=jnp.float32),
    }
