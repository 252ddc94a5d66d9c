"""The gradients of K rates on one batch, and their weighted sum.

Objective k is L_k = R_k + lambda_k * 255^2 * MSE_k at the quantisation step Delta_k (Kamisli et al.
2024, Sec. 3.1), the mean over crops, of which outliers count less (see `loss.outliers`). The
latents y and z do not depend on Delta, so g_a and h_a run forward once. The rest runs once for each
rate, one after another, so that memory does not grow with K. It gives the gradients of its own
parameters and the cotangents of (y, z), which remain to be pulled back through h_a and g_a:

  gram "exact"    K times, for the Gram matrix of whole gradients; the update is their weighted sum
  gram "latents"  once, of the weighted sum: pulling back is linear. The Gram matrix is then that of
                  (gradients behind the latents, cotangents of the latents), as in Sener & Koltun
                  2018, Sec. 3.3: an upper bound of the norm up to the Jacobian of g_a

On many devices: a mesh of data x rate. Each device takes its part of the batch through its part of
the rates. Random numbers are drawn by the number of the crop and of the rate, so the update does
not depend on the mesh.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import PartitionSpec as P

from jvrc.model.config import ENCODER_PARTS, Config
from jvrc.model.latents import Latents, draw_noise
from jvrc.model.modules import VariableRateModel
from jvrc.training import moo
from jvrc.training.loss import objectives, outliers
from jvrc.training.loss.objectives import Losses


class Rates(NamedTuple):
    """The K objectives of an update."""

    qstep: Array  # [K]
    rd_lambda: Array  # [K]


class Setup(NamedTuple):
    """Settings that stay the same during a run; nothing here is traced."""

    config: Config
    weighting: Callable[["RateReport"], Array]  # -> weights [K]
    exact_gram: bool = True  # of whole gradients; False: of the latents' cotangents
    fixed: tuple[str, ...] = ()  # parameters that count as constants
    dtype: jnp.dtype = jnp.dtype("float32")  # of g_a and g_s


class RateReport(NamedTuple):
    """Values of the K objectives that weights are computed from; the same on every device."""

    losses: Losses  # [K] each, means over the batch; rd: of weighted crops
    psnr: Array  # [K], dB, mean over the batch
    rates: Rates
    gram: Array  # [K,K]
    reduced_crops: Array  # [K], share of the crops whose weight is below 1


def crop_noise(key: Array, first: Array, latents: Latents) -> Latents:
    """Draw the noise of crops first, first + 1, … of the whole batch."""
    crops = first + jnp.arange(latents.y.shape[0])
    keys = jax.vmap(partial(jax.random.fold_in, key))(crops)
    one = jax.tree.map(lambda a: a[0], latents)
    return jax.vmap(lambda k: draw_noise(k, one))(keys)


def rate_losses(
    config: Config, decoder: dict, latents: Latents, x: Array, rate: Rates, noise: Latents
) -> Losses:
    """Return the losses [B] of one rate (scalars in `rate`) from the latents of x."""
    qstep = jnp.broadcast_to(rate.qstep, x.shape[:1])
    model, variables = VariableRateModel(config), {"params": decoder}
    out = model.apply(variables, latents, qstep, noise, method="reconstruct_and_rate")
    return objectives.losses_of(out, x, rate.rd_lambda)


def in_a_loop(function: Callable, *stacked: Any) -> Any:
    """Apply a function to each slice along the first axis, in a loop; stack the results."""
    return jax.lax.map(lambda a: function(*a), stacked)


def each_rate(function: Callable, *stacked: Any) -> Any:
    """Apply a function to each slice along the first axis, one after another; stack the results.

    On the CPU the loop is unrolled: convolutions are thirty times as slow within a loop there.
    """
    if jax.default_backend() != "cpu":
        return in_a_loop(function, *stacked)
    count = jax.tree.leaves(stacked)[0].shape[0]
    results = [function(*jax.tree.map(lambda a: a[k], stacked)) for k in range(count)]  # noqa: B023
    return jax.tree.map(lambda *a: jnp.stack(a), *results)


def rate_gradients(
    setup: Setup, decoder: dict, latents: Latents, x: Array, rates: Rates, keys: Array, first: Array
) -> tuple[Losses, Array, Array, dict, Latents]:
    """Return what one device knows of its rates.

    That is (mean losses [K], mean PSNR [K], share of crops of reduced weight [K], d/dDelta [K],
    gradients [K,...], cotangents of the latents [K,B,...]). keys: of the noise, one a rate; first:
    the number of the first crop of x.
    """

    def one(rate: Rates, key: Array) -> tuple:
        noise = crop_noise(key, first, latents)

        def objective(decoder: dict, latents: Latents, qstep: Array) -> tuple[Array, tuple]:
            decoder = objectives.stop_gradients(decoder, *setup.fixed)
            decoder = objectives.cast_transforms(decoder, setup.dtype)
            at = rate._replace(qstep=qstep)
            parts = rate_losses(setup.config, decoder, latents, x, at, noise)
            everyone = jax.lax.all_gather(parts.rd, "data", tiled=True)
            weights = outliers.crop_weights(parts.rd, everyone)
            means = jax.tree.map(jnp.mean, parts)
            means = means._replace(rd=outliers.weighted_mean(weights, parts.rd))
            psnr = jnp.mean(-10 * jnp.log10(parts.mse))
            return means.rd, (means, psnr, jnp.mean(weights < 1, dtype=jnp.float32))

        derivatives = jax.grad(objective, (0, 1, 2), has_aux=True)
        (gradient, cotangent, d_qstep), means = derivatives(decoder, latents, rate.qstep)
        return *means, d_qstep, gradient, cotangent

    return each_rate(one, rates, keys)


def _all_rates(values: Array) -> Array:
    """Gather an array whose first axis is spread over the rate axis of the mesh."""
    return jax.lax.all_gather(values, "rate", axis=0, tiled=True)


def _gathered_gram(stacked: dict | Latents) -> Array:
    """Return the Gram matrix [K,K] of gradients spread likewise."""
    return moo.gram(jax.tree.map(_all_rates, stacked))


def _analyse(setup: Setup, x: Array, encoder: dict) -> Latents:
    """Return y and z, with the constants and the precision of the settings."""
    encoder = objectives.stop_gradients(encoder, *setup.fixed)
    encoder = objectives.cast_transforms(encoder, setup.dtype)
    return VariableRateModel(setup.config).apply({"params": encoder}, x, method="analyse")


def _local_update(
    setup: Setup, params: dict, x: Array, rates: Rates, keys: Array
) -> tuple[dict, Array, RateReport, Array]:
    """Return what `make_update` does, from the crops of x and the rates of this device."""
    encoder = {name: params[name] for name in ENCODER_PARTS}
    decoder = {name: value for name, value in params.items() if name not in ENCODER_PARTS}
    latents, pull_back = jax.vjp(partial(_analyse, setup, x), encoder)
    first = jax.lax.axis_index("data") * x.shape[0]
    *means, cotangents = rate_gradients(setup, decoder, latents, x, rates, keys, first)
    losses, psnr, reduced, d_qstep, stacked = jax.lax.pmean(means, "data")
    if setup.exact_gram:
        stacked |= jax.lax.pmean(each_rate(lambda c: pull_back(c)[0], cotangents), "data")
        gram = _gathered_gram(stacked)
    else:  # a mean over devices: each one's cotangents count by the inverse of their number
        latent_gram = jax.lax.pmean(_gathered_gram(cotangents), "data")
        gram = _gathered_gram(stacked) + latent_gram / jax.lax.axis_size("data")
    everywhere = jax.tree.map(_all_rates, (losses, psnr, rates, reduced, d_qstep))
    report = RateReport(*everywhere[:3], gram, everywhere[3])
    weights = setup.weighting(report)
    count = rates.qstep.shape[0]
    mine = jax.lax.dynamic_slice_in_dim(weights, jax.lax.axis_index("rate") * count, count)
    update = moo.combine(stacked, mine)
    if not setup.exact_gram:
        update |= jax.lax.pmean(pull_back(moo.combine(cotangents, mine))[0], "data")
    return jax.lax.psum(update, "rate"), weights, report, everywhere[4]


def make_update(
    setup: Setup, mesh: jax.sharding.Mesh
) -> Callable[..., tuple[dict, Array, RateReport, Array]]:
    """Return a function that computes the update, not jitted.

    (params, x [B,H,W,3], rates, key) -> (update, weights [K], report, dL_k/dDelta_k [K]). mesh: its
    axis `data` divides B, `rate` divides K.
    """
    specs = (P(), P("data"), P("rate"), P("rate"))
    local = partial(_local_update, setup)
    spread = jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=P(), check_vma=False)

    def update(params: dict, x: Array, rates: Rates, key: Array) -> tuple:
        return spread(params, x, rates, jax.random.split(key, rates.qstep.shape[0]))

    return update
