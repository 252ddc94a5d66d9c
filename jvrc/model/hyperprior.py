"""The models of 2018 as training needs them: reconstruction and rate from latents y and z.

    z^ = m + Delta_z * round((z - m) / Delta_z)
    sigma, mu = h_s(z^)                                 mbt2018: and of its context, `_with_context`
    y^ = mu + Delta * sign(q) * (|q| - delta)           q = round((y - mu) / Delta), `_quantised`
    x^ = g_s(y^)

Minnen et al. 2018 (or Ballé et al. 2018), with Delta, the offsets delta and Delta_z of Kamisli et
al. 2024 (arXiv 2402.18930). jvrc.model.architectures chooses between these functions and others.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jvrc.model import context, entropy_models, layers, transforms, variable_rate
from jvrc.model.config import Config
from jvrc.model.latents import Forward, Latents, Probability
from jvrc.model.transforms import Valid


def g_s(config: Config, params: dict, y_hat: Array, qstep: Array, valid: Valid = None) -> Array:
    """Return the image, not clipped, from the reconstructed y; it does not depend on qstep."""
    return transforms.g_s(config, params["g_s"], y_hat, valid)


def reconstruct_and_rate(
    config: Config,
    params: dict,
    latents: Latents,
    qstep: Array,
    noise: Latents | None,
    probability: Probability = entropy_models.gaussian_probability,
) -> Forward:
    """Return reconstructions and rates: see jvrc.model.architectures.reconstruct_and_rate."""
    y, z = latents
    step = qstep[:, None, None, None]  # Delta
    z_hat, p_z = quantised_z(params, z, step, None if noise is None else noise.z)
    psi = transforms.hyper_layers(config, params["h_s"], z_hat)[-1]
    if config.has_context:
        sigma, mu = _with_context(config, params, y, psi, step)
    else:
        sigma, mu = transforms.split_parameters(config, psi)
    v = (y - mu) / step
    scale = layers.lower_bound(sigma / step, entropy_models.SCALE_MIN)
    y_hat, q = _quantised(params, v, scale, mu, step)
    p_y = probability(q if noise is None else v + noise.y, scale)
    dtype = params["g_s"]["deconv0"]["kernel"].dtype
    x_hat = transforms.g_s(config, params["g_s"], y_hat.astype(dtype)).astype(jnp.float32)
    return Forward(x_hat, entropy_models.bits(p_y), entropy_models.bits(p_z))


def quantised_z(params: dict, z: Array, qstep: Array, noise: Array | None) -> tuple[Array, Array]:
    """Return (z^, probability of z) for z [B,H/64,W/64,N] at qstep [B,1,1,1]; noise: as z or None.

    z^ = m + Delta_z * round((z - m) / Delta_z), with the gradient of z.
    """
    z_step = variable_rate.z_step(params["z_step"], qstep)
    m = entropy_models.medians(params["bottleneck"])
    q_z = layers.ste_round(layers.add_bias(z, -m) / z_step)
    z_hat = layers.add_bias(z_step * q_z, m)
    z_rate = z_hat if noise is None else z + z_step * noise
    return z_hat, entropy_models.bottleneck_probability(params["bottleneck"], z_rate, z_step)


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
        gain = np.repeat(np.array([1, t], np.float32), config.M)
        last = jax.tree.map(lambda a: a * np.broadcast_to(gain, a.shape), params[part]["conv2"])
        params[part] = params[part] | {"conv2": last}
    if config.has_context:
        conv = params["context"]["conv"]
        conv = conv | {"kernel": conv["kernel"] / t}
        params["context"] = params["context"] | {"conv": conv}
    changed = replace(config, latent_scale=latent_scale, hyper_scale=hyper_scale)
    return changed, params
