"""The method of `jvrc posttrain`: each crop at K rates, whose K gradients are combined.

Kamisli et al. 2024 (arXiv 2402.18930), Sec. 3.1: multi-objective post-training.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import Mesh

from jvrc.model import entropy_models
from jvrc.model.residual import bfloat16_products
from jvrc.qstep import QSTEP_MAX, QSTEP_MIN, rd_lambda
from jvrc.training import moo, rate_gradients
from jvrc.training.loss import objectives
from jvrc.training.method import Step
from jvrc.training.rate_gradients import RateReport, Rates
from jvrc.training.recipe.schema import LOG_QSTEP, MultiRateRecipe
from jvrc.training.run.parallel import check_divides
from jvrc.training.update.state import State, apply_gradients
from jvrc.training.validation.held_out import VALIDATION_QSTEPS

# Norms of gradients fall with Delta to about this power: from 56 at Delta = 1 to 0.9 at 10 (a small
# trained model), and less steeply in models that have not been trained long.
_NORM_POWER = 1.5

WEIGHTINGS: dict[str, moo.Weighting] = {
    "mgda": moo.min_norm_weights,
    "frank-wolfe": moo.frank_wolfe_weights,
    "mean": moo.mean_weights,
    "random": moo.mean_weights,  # of the one rate that was drawn
    "upgrad": moo.upgrad_weights,
    "cagrad": moo.cagrad_weights,
}
# report -> what each objective is multiplied with before it is weighed, [K]
OBJECTIVE_SCALES: dict[str, Callable[[RateReport], Array]] = {
    "none": lambda report: jnp.ones_like(report.losses.rd),
    "loss": lambda report: 1 / report.losses.rd,
    "rate": lambda report: 1 / report.losses.bpp,
    "gradient": lambda report: jax.lax.rsqrt(jnp.maximum(jnp.diag(report.gram), 1e-30)),
    "lambda": lambda report: jax.lax.rsqrt(report.rates.rd_lambda),
}


@dataclass(frozen=True)
class MultiRate:
    """Post-training of a model for a range of rates."""

    recipe: MultiRateRecipe

    def first_params(self, images: Sequence[np.ndarray], init: dict | None = None) -> dict:
        """Return `init`, and the logarithms of the quantisation steps if the recipe learns them."""
        self.recipe.check_beginning(warm=init is not None)
        if not self.recipe.learn_qsteps:
            return init
        return init | {LOG_QSTEP: jnp.log(jnp.array(self.recipe.qsteps, jnp.float32))}

    def make_step(self, mesh: Mesh) -> Step:
        """Return one training step, not jitted.

        It reports the scalar loss, the share of crops whose weight is reduced, whether the step was
        skipped (jvrc.training.loss.outliers), and a list [K] of each rate's bpp, PSNR (dB), weight,
        norm of the gradient, and cosine between gradient and update; NaN for a rate that was not
        drawn.

        Raises:
          ValueError: the mesh does not divide the batch or the rates.
        """
        recipe = self.recipe
        check_divides("batch", recipe.batch, mesh.shape["data"])
        check_divides("qsteps", 1 if _draws_one(recipe) else len(recipe.qsteps), mesh.shape["rate"])
        update = rate_gradients.make_update(_setup(recipe), mesh)
        return lambda state, images: _step(recipe, update, state, images)

    def validation_qsteps(self) -> tuple[float, ...]:
        """Return the usual ones, or those of a recipe that serves fewer rates and none between."""
        few = not self.recipe.draw_qsteps and len(self.recipe.qsteps) < len(VALIDATION_QSTEPS)
        return self.recipe.qsteps if few else VALIDATION_QSTEPS


def rates_of(recipe: MultiRateRecipe, params: dict, key: Array) -> Rates:
    """Return the objectives of one update; lambda stays constant where qsteps are learned."""
    qstep = jnp.array(recipe.qsteps, jnp.float32)
    weight = jnp.array(recipe.lambdas, jnp.float32) if recipe.lambdas else rd_lambda(qstep)
    if recipe.learn_qsteps:
        qstep = jnp.clip(jnp.exp(params[LOG_QSTEP]), QSTEP_MIN, QSTEP_MAX)
    if recipe.draw_qsteps:
        qstep = jnp.sort(objectives.draw_qsteps(key, len(recipe.qsteps), *recipe.qstep_range()))
        weight = rd_lambda(qstep)
    return Rates(qstep, weight)


def weighting_of(recipe: MultiRateRecipe) -> Callable[[RateReport], Array]:
    """Return the function from a report to weights [K] of sum one that the recipe asks for."""
    floored = moo.with_floor(WEIGHTINGS[recipe.weighting], recipe.weight_floor)
    scale_of = OBJECTIVE_SCALES[recipe.objective_scale]

    def weigh(report: RateReport) -> Array:
        return moo.normalised(moo.rescaled(floored, scale_of(report))(report.gram))

    return weigh


def _draws_one(recipe: MultiRateRecipe) -> bool:
    """Return True if only one rate a step gets a gradient: the weights of the others are zero."""
    return recipe.weighting == "random"


def _setup(recipe: MultiRateRecipe) -> rate_gradients.Setup:
    return rate_gradients.Setup(
        recipe.config(),
        weighting_of(recipe),
        exact_gram=recipe.gram == "exact",
        fixed=recipe.fixed_parts(),
        dtype=jnp.dtype(recipe.transforms_dtype()),
    )


def _step(
    recipe: MultiRateRecipe, update: Callable, state: State, images: Array
) -> tuple[State, dict[str, Array]]:
    """Return the next state and what to report; update: of `rate_gradients.make_update`."""
    key = jax.random.fold_in(jax.random.key(state.settings.seed), state.step)
    k_noise, k_rate, k_draw = jax.random.split(key, 3)
    params = {name: value for name, value in state.params.items() if name != LOG_QSTEP}
    count = len(recipe.qsteps)
    rates, index = rates_of(recipe, state.params, k_rate), jnp.arange(count)
    if _draws_one(recipe):
        index = jax.random.randint(k_draw, (1,), 0, count)
        rates = jax.tree.map(lambda a: a[index], rates)
    x = images.astype(jnp.float32) / 255
    with bfloat16_products(recipe.rounds_products()):
        grads, weights, report, d_qstep = update(params, x, rates, k_noise)
    if "bottleneck" not in recipe.fixed_parts():
        grads["bottleneck"] |= _quantile_gradient(params["bottleneck"])
    if recipe.learn_qsteps:  # each by its own objective alone; by the chain rule, of log Delta
        own = held_in_range(state.params[LOG_QSTEP][index], weights * d_qstep * rates.qstep)
        grads[LOG_QSTEP] = jnp.zeros(count).at[index].set(own)
    loss = objectives.balanced_mean(report.losses.rd, rates.qstep)
    of_rates = {
        name: jnp.full(count, jnp.nan).at[index].set(values)
        for name, values in _report(report, weights).items()
    }
    norm = optax.tree.norm(grads)
    if _draws_one(recipe):  # gradients fall with Delta: the norms of all rates are to compare
        norm = norm * rates.qstep[0] ** _NORM_POWER
    state, protection = apply_gradients(recipe, state, grads, norm)
    shared = {"loss": loss, "reduced_crops": jnp.mean(report.reduced_crops)}
    return state, shared | of_rates | {k: protection[k] for k in ("skipped", "learning_rate")}


def held_in_range(log_qstep: Array, gradient: Array) -> Array:
    """Return the gradient [K] of log Delta: 0 where a descent leaves QSTEP_MIN ... QSTEP_MAX."""
    leaves = (log_qstep <= math.log(QSTEP_MIN)) & (gradient > 0)
    leaves |= (log_qstep >= math.log(QSTEP_MAX)) & (gradient < 0)
    return jnp.where(leaves, 0.0, gradient)


def _quantile_gradient(bottleneck: dict) -> dict:
    """Return the gradient of the auxiliary loss, which belongs to no rate, of the quantiles."""
    gradient = jax.grad(entropy_models.quantile_loss)(bottleneck)["quantiles"]
    return {"quantiles": objectives.AUXILIARY * gradient}


def _report(report: RateReport, weights: Array) -> dict[str, Array]:
    """Return what the metrics file gets of each rate in the update: [K] each."""
    norms = jnp.sqrt(jnp.diag(report.gram))
    update_norm = jnp.sqrt(weights @ report.gram @ weights)
    return {
        "qstep": report.rates.qstep,
        "bpp": report.losses.bpp,
        "psnr": report.psnr,
        "weight": weights,
        "gradient_norm": norms,
        "cosine": report.gram @ weights / jnp.maximum(norms * update_norm, 1e-30),
    }
