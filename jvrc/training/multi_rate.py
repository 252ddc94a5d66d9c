"""The step of `jvrc posttrain`: every crop at K rates, the K gradients weighed against each other.

Kamisli et al. 2024 (arXiv 2402.18930), Sec. 3.1: multi-objective post-training.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jvrc.model import entropy_models
from jvrc.qstep import QSTEP_MAX, QSTEP_MIN, rd_lambda
from jvrc.training import moo, objectives, rate_gradients
from jvrc.training.rate_gradients import RateReport, Rates
from jvrc.training.recipe import PostRecipe, check_divides
from jvrc.training.state import State, apply_gradients

LOG_QSTEP = "log_qstep"  # [K], a parameter where steps are learned


def with_learned_steps(recipe: PostRecipe, params: dict) -> dict:
    """The model's parameters, and those of the steps if the recipe learns them."""
    if not recipe.learn_qsteps:
        return params
    return params | {LOG_QSTEP: jnp.log(jnp.array(recipe.qsteps, jnp.float32))}


def rates_of(recipe: PostRecipe, params: dict, key: Array) -> Rates:
    """The objectives of one update; at constant lambda where the steps are learned."""
    qstep = jnp.array(recipe.qsteps, jnp.float32)
    weight = jnp.array(recipe.lambdas) if recipe.lambdas else rd_lambda(qstep)
    if recipe.learn_qsteps:
        qstep = jnp.clip(jnp.exp(params[LOG_QSTEP]), QSTEP_MIN, QSTEP_MAX)
    if recipe.between:
        qstep = jnp.sort(objectives.draw_qsteps(key, len(recipe.qsteps), *recipe.qstep_range()))
        weight = rd_lambda(qstep)
    return Rates(qstep, weight)


def _scale(recipe: PostRecipe, report: RateReport) -> Array:
    """What each objective is multiplied with before it is weighed: [K]."""
    return {
        "none": jnp.ones_like(report.losses.rd),
        "loss": 1 / report.losses.rd,
        "rate": 1 / report.losses.bpp,
        "gradient": jax.lax.rsqrt(jnp.maximum(jnp.diag(report.gram), 1e-30)),
        "lambda": jax.lax.rsqrt(report.rates.rd_lambda),
    }[recipe.scale]


def aggregator_of(recipe: PostRecipe) -> Callable[[RateReport], Array]:
    """report -> weights [K] of sum one, as the recipe says."""
    rule = {
        "mgda": moo.min_norm_weights,
        "frank-wolfe": moo.frank_wolfe_weights,
        "mean": moo.mean_weights,
        "random": moo.mean_weights,  # of the one rate that was drawn
        "upgrad": moo.upgrad_weights,
        "cagrad": moo.cagrad_weights,
    }[recipe.aggregator]

    def weigh(report: RateReport) -> Array:
        floored = moo.with_floor(rule, recipe.floor)  # of the scaled objectives
        return moo.normalised(moo.rescaled(floored, _scale(recipe, report))(report.gram))

    return weigh


def _drawn(rates: Rates, key: Array) -> tuple[Rates, Array]:
    """One rate of K, [1] each, and which."""
    index = jax.random.randint(key, (1,), 0, rates.qstep.shape[0])
    return jax.tree.map(lambda a: a[index], rates), index


def _scattered(values: Array, index: Array | None, count: int) -> Array:
    """[K] again, NaN for the rates that were not drawn."""
    return values if index is None else jnp.full(count, jnp.nan).at[index].set(values)


def make_step(
    recipe: PostRecipe, mesh: jax.sharding.Mesh
) -> Callable[[State, Array], tuple[State, dict[str, Array]]]:
    """The update: (state, uint8 [B,crop,crop,3]) -> (state, what to report). Not jitted.

    The report has, beside the scalar loss, a list [K] for each rate's bpp, PSNR (dB), weight, norm
    of its gradient, and cosine between its gradient and the update.

    Raises:
      ValueError: the mesh does not divide the batch or the rates.
    """
    random = recipe.aggregator == "random"  # the one rule for which K - 1 rates need no gradient
    check_divides("batch", recipe.batch, mesh.shape["data"])
    check_divides("qsteps", 1 if random else len(recipe.qsteps), mesh.shape["rate"])
    setup = rate_gradients.Setup(
        recipe.config(),
        aggregator_of(recipe),
        exact=recipe.gram == "exact",
        fixed=recipe.fixed_parts(),
        dtype=jnp.dtype(recipe.precision),
    )
    update = rate_gradients.make_update(setup, mesh)

    def step(state: State, images: Array) -> tuple[State, dict[str, Array]]:
        key = jax.random.fold_in(jax.random.key(recipe.seed), state.step)
        k_noise, k_rate, k_draw = jax.random.split(key, 3)
        params = {name: value for name, value in state.params.items() if name != LOG_QSTEP}
        rates, index = rates_of(recipe, state.params, k_rate), None
        if random:
            rates, index = _drawn(rates, k_draw)
        x = images.astype(jnp.float32) / 255
        grads, weights, report, d_qstep = update(params, x, rates, k_noise)
        grads["bottleneck"] |= _quantile_gradient(params["bottleneck"])
        if recipe.learn_qsteps:  # of its own objective alone; by the chain rule, of log Delta
            own = weights * d_qstep * rates.qstep
            grads[LOG_QSTEP] = jnp.zeros(len(recipe.qsteps)).at[_all(index)].set(own)
        shown = {k: _scattered(v, index, len(recipe.qsteps)) for k, v in _shown(report, weights)}
        loss = jnp.mean(report.losses.rd * rates.qstep) / 4
        return apply_gradients(recipe, state, grads), {"loss": loss} | shown

    return step


def _all(index: Array | None) -> Array | slice:
    return slice(None) if index is None else index


def _quantile_gradient(bottleneck: dict) -> dict:
    """Of the auxiliary loss, which is no rate's: it alone moves the quantiles."""
    gradient = jax.grad(entropy_models.quantile_loss)(bottleneck)["quantiles"]
    return {"quantiles": objectives.AUXILIARY * gradient}


def _shown(report: RateReport, weights: Array) -> list[tuple[str, Array]]:
    norms = jnp.sqrt(jnp.diag(report.gram))
    update_norm = jnp.sqrt(weights @ report.gram @ weights)
    return [
        ("qstep", report.rates.qstep),
        ("bpp", report.losses.bpp),
        ("psnr", report.psnr),
        ("weight", weights),
        ("gradient_norm", norms),
        ("cosine", report.gram @ weights / jnp.maximum(norms * update_norm, 1e-30)),
    ]
