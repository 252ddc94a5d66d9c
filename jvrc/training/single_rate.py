"""The step of `jvrc train`: every crop at a step Delta of its own, one balanced mean."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.sharding import Mesh

from jvrc.training import objectives
from jvrc.training.recipe import Recipe, check_divides
from jvrc.training.state import State, apply_gradients


def make_step(
    recipe: Recipe, mesh: Mesh
) -> Callable[[State, Array], tuple[State, dict[str, Array]]]:
    """The update: (state, uint8 [B,crop,crop,3]) -> (state, what to report). Not jitted.

    Raises:
      ValueError: the mesh does not divide the batch.
    """
    check_divides("batch", recipe.batch, mesh.shape["data"])
    config = recipe.config()

    def step(state: State, images: Array) -> tuple[State, dict[str, Array]]:
        key = jax.random.fold_in(jax.random.key(recipe.seed), state.step)
        k_noise, k_rate = jax.random.split(key)
        x = images.astype(jnp.float32) / 255
        qstep = objectives.draw_qsteps(k_rate, x.shape[0], recipe.qstep_low, recipe.qstep_high)

        def loss(params: dict) -> tuple[Array, objectives.Losses]:
            params = objectives.held_fixed(params, *recipe.fixed_parts())
            params = objectives.in_precision(params, jnp.dtype(recipe.precision))
            return objectives.training_loss(config, params, x, qstep, k_noise, recipe.balance)

        (_, parts), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
        report = {
            "loss": objectives.balanced_mean(parts.rd, qstep),  # without the auxiliary loss
            "bpp": jnp.mean(parts.bpp),
            "psnr": jnp.mean(-10 * jnp.log10(parts.mse)),
            "gradient_norm": optax.tree.norm(grads),
        }
        return apply_gradients(recipe, state, grads), report

    return step
