"""The functions of a model, whatever its architecture: the class of its config chooses them.

    latents = analyse(config, params, x)                          y = g_a(x), z = h_a(y)
    out = reconstruct_and_rate(config, params, latents, qstep, noise)

params: the whole model's, or the parts that a function needs.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jvrc.model import entropy_models, hyperprior, jvrc2026, stepwise, transforms
from jvrc.model.config import (
    Config,
    JointAutoregressiveConfig,
    Jvrc2026Config,
    MeanScaleHyperpriorConfig,
    ScaleHyperpriorConfig,
)
from jvrc.model.latents import Forward, Latents, Probability, draw_noise
from jvrc.model.transforms import Valid


class Architecture(NamedTuple):
    """The functions that differ between architectures."""

    g_a: Callable[..., Array]  # (config, params of g_a, x, valid) -> y
    g_s: Callable[..., Array]  # (config, params, y^, qstep [B], valid) -> image, not clipped
    reconstruct_and_rate: Callable[..., Forward]  # (config, params, latents, qstep, noise)
    with_scales: Callable[..., tuple[Config, dict]]


_HYPERPRIOR = Architecture(
    transforms.g_a, hyperprior.g_s, hyperprior.reconstruct_and_rate, hyperprior.with_scales
)
_ARCHITECTURES = {
    ScaleHyperpriorConfig: _HYPERPRIOR,
    MeanScaleHyperpriorConfig: _HYPERPRIOR,
    JointAutoregressiveConfig: _HYPERPRIOR,
    Jvrc2026Config: Architecture(
        jvrc2026.g_a, stepwise.g_s, stepwise.reconstruct_and_rate, stepwise.with_scales
    ),
}


def g_a(config: Config, params: dict, x: Array, valid: Valid = None) -> Array:
    """Return y [B,H/16,W/16,M] of x [B,H,W,3] in [0,1] (analysis transform)."""
    return _ARCHITECTURES[type(config)].g_a(config, params["g_a"], x, valid)


def g_s(config: Config, params: dict, y_hat: Array, qstep: Array, valid: Valid = None) -> Array:
    """Return the image, not clipped, from y^ at qstep [B] (synthesis transform)."""
    return _ARCHITECTURES[type(config)].g_s(config, params, y_hat, qstep, valid)


def analyse(config: Config, params: dict, x: Array) -> Latents:
    """Return y and z of x [B,H,W,3] in [0,1], H and W multiples of 64. They do not depend on qstep.

    g_a computes in the precision of its kernels, as does g_s in `reconstruct_and_rate`; the rest is
    float32.
    """
    dtype = jax.tree.leaves(params["g_a"])[0].dtype
    y = g_a(config, params, x.astype(dtype)).astype(jnp.float32)
    return Latents(y, transforms.h_a(config, params["h_a"], y))


def reconstruct_and_rate(
    config: Config,
    params: dict,
    latents: Latents,
    qstep: Array,
    noise: Latents | None,
    probability: Probability = entropy_models.gaussian_probability,
) -> Forward:
    """Return reconstructions and rates (bits) of latents at qstep [B].

    Reconstructions use rounded latents with straight-through gradients. Rates use additive uniform
    noise of the width of the bin (training), or rounded latents if noise is None (validation).
    params: without g_a and h_a will do. probability: of y.
    """
    function = _ARCHITECTURES[type(config)].reconstruct_and_rate
    return function(config, params, latents, qstep, noise, probability)


def forward(
    config: Config,
    params: dict,
    x: Array,
    qstep: Array,
    key: Array | None,
    probability: Probability = entropy_models.gaussian_probability,
) -> Forward:
    """Return `reconstruct_and_rate` of `analyse(x)`, with noise drawn from key (None: rounded)."""
    latents = analyse(config, params, x)
    noise = None if key is None else draw_noise(key, latents)
    return reconstruct_and_rate(config, params, latents, qstep, noise, probability)


def with_scales(
    config: Config, params: dict, *, latent_scale: float = 1.0, hyper_scale: float = 1.0
) -> tuple[Config, dict]:
    """Return (config, params) of the same model with other scale constants.

    Kernels change so that results stay the same; NumPy's arrays stay NumPy's. With both constants
    at 1, nothing is left to multiply, and the parameters of the 2018 models are those of the
    literature (and CompressAI's).
    """
    function = _ARCHITECTURES[type(config)].with_scales
    return function(config, params, latent_scale=latent_scale, hyper_scale=hyper_scale)
