"""The whole model: parameters, and the forward pass that training differentiates.

Pure functions; `jvrc.model.modules` wraps them for Flax users.
"""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jvrc.model import context, entropy_models, layers, transforms, variable_rate
from jvrc.model.config import Config


class Latents(NamedTuple):
    """What the analysis gives, or anything of its shapes."""

    y: Array  # [B,H/16,W/16,M]
    z: Array  # [B,H/64,W/64,N]


class Forward(NamedTuple):
    """One pass at one step per picture."""

    x_hat: Array  # [B,H,W,3], not clipped
    bits_y: Array  # [B]
    bits_z: Array  # [B]


def init_params(key: Array, config: Config) -> dict:
    """Random parameters: g_a, g_s, h_a, h_s, bottleneck, offset (f_theta) and z_step.

    For mbt2018 also context and entropy_parameters.
    """
    keys = jax.random.split(key, 7)
    params = {
        "g_a": transforms.init_g_a(keys[0], config),
        "g_s": transforms.init_g_s(keys[1], config),
        "h_a": transforms.init_h_a(keys[2], config),
        "h_s": transforms.init_h_s(keys[3], config),
        "bottleneck": entropy_models.init_bottleneck(keys[4], config.N),
        "offset": variable_rate.init_offset(keys[5]),
        "z_step": variable_rate.init_z_step(keys[6]),
    }
    if config.has_context:
        k_context, k_parameters = jax.random.split(jax.random.fold_in(key, 7))
        params["context"] = context.init_context(k_context, config)
        params["entropy_parameters"] = context.init_entropy_parameters(k_parameters, config)
    return params


def analyse(config: Config, params: dict, x: Array) -> Latents:
    """y and z of x [B,H,W,3] in [0,1], H, W multiples of 64: all that no step enters.

    g_a computes in the precision of its kernels, as does g_s in `reconstruct_and_rate`; the rest is
    float32.
    """
    dtype = params["g_a"]["conv0"]["kernel"].dtype
    y = transforms.g_a(config, params["g_a"], x.astype(dtype)).astype(jnp.float32)
    return Latents(y, transforms.h_a(config, params["h_a"], y))


def draw_noise(key: Array, like: Latents) -> Latents:
    """Uniform in [-1/2, 1/2), of the shapes of y and z."""
    keys = jax.random.split(key)
    draw = partial(jax.random.uniform, minval=-0.5, maxval=0.5)
    return Latents(draw(keys[0], like.y.shape), draw(keys[1], like.z.shape))


def reconstruct_and_rate(
    config: Config, params: dict, latents: Latents, qstep: Array, noise: Latents | None
) -> Forward:
    """Reconstruction and rate of latents at steps qstep [B]; params without g_a and h_a suffice.

    Minnen et al. 2018 (or Ballé et al. 2018) with the step Delta, the offsets and the step of z of
    Kamisli et al. 2024 (arXiv 2402.18930); rates in bits.

    Reconstructions use rounded latents with straight-through gradients. Rates use additive uniform
    noise of the width of the bin (training), or the rounded latents themselves where noise is None
    (validation).
    """
    y, z = latents
    step = qstep[:, None, None, None]

    z_step = variable_rate.z_step(params["z_step"], step)
    m = entropy_models.medians(params["bottleneck"])
    q_z = layers.ste_round(layers.add_bias(z, -m) / z_step)
    z_hat = layers.add_bias(z_step * q_z, m)
    z_rate = z_hat if noise is None else z + z_step * noise.z
    p_z = entropy_models.bottleneck_probability(params["bottleneck"], z_rate, z_step)

    psi = transforms.hyper_layers(config, params["h_s"], z_hat)[-1]
    if config.has_context:
        sigma, mu = _with_context(config, params, y, psi, step)
    else:
        sigma, mu = transforms.split_parameters(config, psi)
    v = (y - mu) / step
    scale = layers.lower_bound(sigma / step, entropy_models.SCALE_MIN)
    y_hat, q = _quantised(params, v, scale, mu, step)
    p_y = entropy_models.gaussian_probability(q if noise is None else v + noise.y, scale)
    dtype = params["g_s"]["deconv0"]["kernel"].dtype
    x_hat = transforms.g_s(config, params["g_s"], y_hat.astype(dtype)).astype(jnp.float32)
    return Forward(x_hat, entropy_models.bits(p_y), entropy_models.bits(p_z))


def _quantised(params: dict, v: Array, scale: Array, mu: Array, step: Array) -> tuple[Array, Array]:
    """(y^, q): latents v in units of the step, rounded and reconstructed with offsets."""
    q = layers.ste_round(v)
    delta = variable_rate.offset(params["offset"], scale, step)
    return variable_rate.reconstruct(q, mu, step, delta), q


def _with_context(config: Config, params: dict, y: Array, psi: Array, step: Array) -> tuple:
    """(sigma, mu) of mbt2018, all positions at once.

    The context is of y^, and y^ = mu + … of what the context gives: true y^ come one after another.
    In their place stand those of a first pass, whose context is y itself: rounded like the true
    ones, to the same bins but for few. Gradients reach y, straight through, and not the first pass.
    """

    def predict(params: dict, y_hat: Array) -> tuple[Array, Array]:
        features = context.features(config, params["context"], y_hat, step)
        return context.entropy_parameters(config, params["entropy_parameters"], psi, features)

    sigma, mu = predict(params, y)
    scale = jnp.maximum(sigma / step, entropy_models.SCALE_MIN)
    first, _ = _quantised(params, (y - mu) / step, scale, mu, step)
    return predict(params, y + jax.lax.stop_gradient(first - y))


def forward(config: Config, params: dict, x: Array, qstep: Array, key: Array | None) -> Forward:
    """`analyse`, then `reconstruct_and_rate` with noise drawn from key (None: rounded instead)."""
    latents = analyse(config, params, x)
    noise = None if key is None else draw_noise(key, latents)
    return reconstruct_and_rate(config, params, latents, qstep, noise)


def with_scales(
    config: Config, params: dict, *, latent_scale: float = 1.0, hyper_scale: float = 1.0
) -> tuple[Config, dict]:
    """The same function of the picture with other constants: kernels change to make up for them.

    With both at one, the parameters are those of the literature's models (and of CompressAI).
    """
    s, t = config.latent_scale / latent_scale, config.hyper_scale / hyper_scale
    g_a, g_s, h_a, h_s = (dict(params[k]) for k in ("g_a", "g_s", "h_a", "h_s"))
    g_a["conv3"] = jax.tree.map(lambda a: a * s, g_a["conv3"])
    g_s["deconv0"] = g_s["deconv0"] | {"kernel": g_s["deconv0"]["kernel"] / s}
    h_a["conv0"] = h_a["conv0"] | {"kernel": h_a["conv0"]["kernel"] / t}
    params = params | {"g_a": g_a, "g_s": g_s, "h_a": h_a, "h_s": h_s}
    if config.predicts_mean:
        part = "entropy_parameters" if config.has_context else "h_s"
        gain = jnp.concatenate([jnp.ones(config.M), jnp.full(config.M, t)])
        last = jax.tree.map(lambda a: a * jnp.broadcast_to(gain, a.shape), params[part]["conv2"])
        params[part] = params[part] | {"conv2": last}
    if config.has_context:
        conv = params["context"]["conv"]
        conv = conv | {"kernel": conv["kernel"] / t}
        params["context"] = params["context"] | {"conv": conv}
    changed = replace(config, latent_scale=latent_scale, hyper_scale=hyper_scale)
    return changed, params
