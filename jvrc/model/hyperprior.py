"""The whole model as pure functions, as training needs it: analysis, reconstruction and rate.

    y = g_a(x), z = h_a(y)                              analyse
    z^ = m + Delta_z * round((z - m) / Delta_z)         reconstruct_and_rate: the rest
    sigma, mu = h_s(z^)                                 mbt2018: and of its context, `_with_context`
    y^ = mu + Delta * sign(q) * (|q| - delta)           q = round((y - mu) / Delta), `_quantised`
    x^ = g_s(y^)

Minnen et al. 2018 (or Ballé et al. 2018), with Delta, the offsets delta and Delta_z of Kamisli et
al. 2024 (arXiv 2402.18930). Flax modules with the same functions: jvrc.model.modules.
"""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jvrc.model import context, entropy_models, layers, transforms, variable_rate
from jvrc.model.config import Config

ENCODER = ("g_a", "h_a")  # parts whose parameters only `analyse` needs


class Latents(NamedTuple):
    """The latents y and z of a batch; also noise, or gradients, of the same shapes."""

    y: Array  # [B,H/16,W/16,M]
    z: Array  # [B,H/64,W/64,N]


class Forward(NamedTuple):
    """The results of a forward pass with one qstep for each image."""

    x_hat: Array  # [B,H,W,3], not clipped
    bits_y: Array  # [B]
    bits_z: Array  # [B]


def analyse(config: Config, params: dict, x: Array) -> Latents:
    """Return y and z of x [B,H,W,3] in [0,1], H and W multiples of 64. They do not depend on qstep.

    g_a computes in the precision of its kernels, as does g_s in `reconstruct_and_rate`; the rest is
    float32.
    """
    dtype = params["g_a"]["conv0"]["kernel"].dtype
    y = transforms.g_a(config, params["g_a"], x.astype(dtype)).astype(jnp.float32)
    return Latents(y, transforms.h_a(config, params["h_a"], y))


def draw_noise(key: Array, like: Latents) -> Latents:
    """Return noise uniform in [-1/2, 1/2), of the shapes of y and z."""
    keys = jax.random.split(key)
    draw = partial(jax.random.uniform, minval=-0.5, maxval=0.5)
    return Latents(draw(keys[0], like.y.shape), draw(keys[1], like.z.shape))


def reconstruct_and_rate(
    config: Config, params: dict, latents: Latents, qstep: Array, noise: Latents | None
) -> Forward:
    """Return reconstructions and rates (bits) of latents at qstep [B].

    Reconstructions use rounded latents with straight-through gradients. Rates use additive uniform
    noise of the width of the bin (training), or rounded latents if noise is None (validation).
    params: without g_a and h_a will do.
    """
    y, z = latents
    step = qstep[:, None, None, None]  # Delta

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
    """Return (y^, q) for v = (y - mu) / Delta: rounded, and reconstructed with offsets."""
    q = layers.ste_round(v)
    delta = variable_rate.offset(params["offset"], scale, step)
    return variable_rate.reconstruct(q, mu, step, delta), q


def _with_context(config: Config, params: dict, y: Array, psi: Array, step: Array) -> tuple:
    """Return (sigma, mu) of mbt2018 for all positions at once, from an approximation of y^.

    The context model sees y^, which depends on mu, which depends on the context: the decoder goes
    from position to position. Training takes y^ from a first pass whose context is y itself; nearly
    all of it falls into the same bins. Gradients pass straight through to y, not to the first pass.
    """

    def predict(params: dict, y_hat: Array) -> tuple[Array, Array]:
        features = context.features(config, params["context"], y_hat, step)
        return context.entropy_parameters(config, params["entropy_parameters"], psi, features)

    sigma, mu = predict(params, y)
    scale = jnp.maximum(sigma / step, entropy_models.SCALE_MIN)
    first, _ = _quantised(params, (y - mu) / step, scale, mu, step)
    return predict(params, y + jax.lax.stop_gradient(first - y))


def forward(config: Config, params: dict, x: Array, qstep: Array, key: Array | None) -> Forward:
    """Return `reconstruct_and_rate` of `analyse(x)`, with noise drawn from key (None: rounded)."""
    latents = analyse(config, params, x)
    noise = None if key is None else draw_noise(key, latents)
    return reconstruct_and_rate(config, params, latents, qstep, noise)


def with_scales(
    config: Config, params: dict, *, latent_scale: float = 1.0, hyper_scale: float = 1.0
) -> tuple[Config, dict]:
    """Return (config, params) of the same model with other scale constants.

    Kernels change so that results stay the same. With both constants at 1, the parameters are those
    of the literature's models (and of CompressAI).
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
