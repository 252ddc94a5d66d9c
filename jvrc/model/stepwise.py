"""jvrc2026 as training needs it: reconstruction in four steps, and rate, from latents y and z.

All scales follow from z^ at once; in each step, `known` is y^ of the earlier steps:

    sigma, m0 = h_s(z^)                       z^ as in jvrc.model.hyperprior
    for each step s:
        mu = means(s, known, m0)              of the latents of step s (jvrc.model.jvrc2026)
        q = round((y - mu) / Delta)
        y^ = mu + Delta * sign(q) * (|q| - delta)
    x^ = g_s(y^, Delta)
"""

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jvrc.model import entropy_models, hyperprior, jvrc2026, layers, variable_rate
from jvrc.model.config import Jvrc2026Config
from jvrc.model.latents import Forward, Latents, Probability
from jvrc.model.transforms import Valid


def g_s(
    config: Jvrc2026Config, params: dict, y_hat: Array, qstep: Array, valid: Valid = None
) -> Array:
    """Return the image, not clipped, from y^ [B,H/16,W/16,M] at qstep [B]."""
    features = jvrc2026.features_of(params, qstep).astype(y_hat.dtype)
    if len(qstep) == 1:
        params, features = {"g_s": jvrc2026.at_features(params["g_s"], features)}, None
    return jvrc2026.g_s(config, params["g_s"], y_hat, features, valid)


def reconstruct_and_rate(
    config: Jvrc2026Config,
    params: dict,
    latents: Latents,
    qstep: Array,
    noise: Latents | None,
    probability: Probability = entropy_models.gaussian_probability,
) -> Forward:
    """Return reconstructions and rates: see jvrc.model.architectures.reconstruct_and_rate."""
    y, z = latents
    step = qstep[:, None, None, None]  # Delta
    z_hat, p_z = hyperprior.quantised_z(params, z, step, None if noise is None else noise.z)
    sigma, first = jvrc2026.hyper_parameters(config, params["h_s"], z_hat)
    scale = layers.lower_bound(sigma / step, entropy_models.SCALE_MIN)
    delta = variable_rate.offset(params["offset"], scale, step)
    features = jvrc2026.features_of(params, qstep)

    def quantised(mu: Array) -> tuple[Array, Array]:
        v = (y - mu) / step
        q = layers.ste_round(v)
        value = q if noise is None else v + noise.y
        return variable_rate.reconstruct(q, mu, step, delta), value

    y_hat, value = in_steps(config, params["context"], first, features, quantised)
    p_y = probability(value, scale)
    dtype = jax.tree.leaves(params["g_s"])[0].dtype
    x_hat = g_s(config, params, y_hat.astype(dtype), qstep).astype(jnp.float32)
    return Forward(x_hat, entropy_models.bits(p_y), entropy_models.bits(p_z))


def in_steps(
    config: Jvrc2026Config,
    params: dict,
    first: Array,
    features: Array | None,
    reconstruct: Callable[[Array], tuple[Array, Array]],
    valid: Valid = None,
) -> tuple[Array, Array]:
    """Return (y^, values), each [B,h,w,M], from the four steps of the context model.

    params: of the context model. first: m0 [B,h,w,M], in units of hyper_scale. features: of Delta.
    reconstruct: mu -> (y^, any value), each [B,h,w,M], of which a step keeps its own latents.
    """
    known = values = jnp.zeros_like(first)
    cells = (1, first.shape[1] // 2, first.shape[2] // 2, 1)
    for step in range(jvrc2026.STEPS):
        mu = jvrc2026.means(config, params, step, known, first, features, valid)
        # repeated by the program: whole masks would be most of its size
        now = jnp.tile(jvrc2026.step_mask(config, step, 2, 2)[None], cells)
        found, value = reconstruct(mu)
        known, values = jnp.where(now, found, known), jnp.where(now, value, values)
    return known, values


def with_scales(
    config: Jvrc2026Config, params: dict, *, latent_scale: float = 1.0, hyper_scale: float = 1.0
) -> tuple[Jvrc2026Config, dict]:
    """Return the same model with other constants: see jvrc.model.architectures.with_scales."""
    s, t = config.latent_scale / latent_scale, config.hyper_scale / hyper_scale
    scaled = {
        "g_a": {"down": {"kernel": s, "bias": s}},
        # film shifts what `up` gets, which is y^ / latent_scale
        "g_s": {"up": {"kernel": 1 / s}, "film": {"kernel": _halves(1.0, s, config.M)}},
        "h_a": {"conv0": {"kernel": 1 / t}},
        "h_s": {"conv2": {name: _halves(1.0, t, config.M) for name in ("kernel", "bias")}},
        "context": {f"in{i}": {"kernel": 1 / t} for i in range(1, jvrc2026.STEPS)}
        | {f"out{i}": {"kernel": t, "bias": t} for i in range(1, jvrc2026.STEPS)},
    }
    changed = replace(config, latent_scale=latent_scale, hyper_scale=hyper_scale)
    return changed, params | {part: _times(params[part], scaled[part]) for part in scaled}


def _halves(low: float, high: float, count: int) -> np.ndarray:
    return np.repeat(np.array([low, high], np.float32), count)


def _times(params: dict, factors: dict) -> dict:
    """Return params with the named leaves multiplied by factors, numbers or [O]."""
    changed = dict(params)
    for name, factor in factors.items():
        value = params[name]
        nested = isinstance(factor, dict)
        changed[name] = _times(value, factor) if nested else value * _broadcast(factor, value.shape)
    return changed


def _broadcast(factor: float | np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.broadcast_to(np.asarray(factor, np.float32), shape)
