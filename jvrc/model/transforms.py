"""The four transforms g_a, g_s, h_a, h_s as pure functions of (config, parameters, input).

Ballé et al. 2018 (bmshj2018, Fig. 4) and Minnen et al. 2018 (mbt2018; its context model is
jvrc.model.context).

    x [B,H,W,3] in [0,1]   y, mu, sigma [B,H/16,W/16,M]   z [B,H/64,W/64,N]   H, W multiples of 64

`valid` = (top, bottom, left, right), in pixels, is the part of a tile that lies inside the image.
Features outside are set to zero after each layer, as zero padding at the image's border does; so a
tile, or an image that is padded to a larger size, gives the same values as the image alone. Latents
that enter must be zero outside; sigma and mu are undefined there.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jvrc.model import layers
from jvrc.model.config import Config

Valid = tuple[Array | int, Array | int, Array | int, Array | int] | None


def within(x: Array, valid: Valid, stride: int) -> Array:
    """Return features [B,H/stride,W/stride,C] with zeros outside the valid rectangle."""
    if valid is None:
        return x
    top, bottom, left, right = valid
    rows = jnp.arange(x.shape[1]) * stride
    cols = jnp.arange(x.shape[2]) * stride
    inside_rows = ((rows >= top) & (rows < bottom))[:, None]
    inside_cols = ((cols >= left) & (cols < right))[None, :]
    return jnp.where((inside_rows & inside_cols)[None, :, :, None], x, 0)


def g_a(config: Config, params: dict, x: Array, valid: Valid = None) -> Array:
    """Return y, the analysis transform of an image."""
    x = within(x, valid, 1)
    for i in range(4):
        x = layers.down(params[f"conv{i}"], x)
        if i < 3:
            x = layers.gdn(params[f"gdn{i}"], x)
        x = within(x, valid, 2 << i)
    return x * config.latent_scale


def g_s(config: Config, params: dict, y: Array, valid: Valid = None) -> Array:
    """Return the image, not clipped, from the reconstructed y (synthesis transform)."""
    x = y / config.latent_scale
    for i in range(4):
        x = layers.up(params[f"deconv{i}"], x)
        if i < 3:
            x = layers.gdn(params[f"igdn{i}"], x, inverse=True)
        x = within(x, valid, 8 >> i)
    return x


def _activation(config: Config) -> Callable[[Array], Array]:
    return layers.leaky_relu if config.predicts_mean else jax.nn.relu


def h_a(config: Config, params: dict, y: Array, valid: Valid = None) -> Array:
    """Return z, the hyper analysis of y; of |y| in the scale hyperprior."""
    act = _activation(config)
    x = (y if config.predicts_mean else jnp.abs(y)) / config.hyper_scale
    x = within(act(layers.conv(params["conv0"], x)), valid, 16)
    x = within(act(layers.down(params["conv1"], x)), valid, 32)
    return within(layers.down(params["conv2"], x), valid, 64)


def h_s(config: Config, params: dict, z: Array, valid: Valid = None) -> tuple[Array, Array]:
    """Return (sigma, mu), each [B,H/16,W/16,M], from the reconstructed z (hyper synthesis).

    mu is 0 in the scale hyperprior. sigma is positive if config.log_scale; otherwise any real
    number, which the entropy model bounds from below.
    """
    return split_parameters(config, hyper_layers(config, params, z, valid)[-1])


def split_parameters(config: Config, x: Array) -> tuple[Array, Array]:
    """Return (sigma, mu) from the last layer [...,M or 2M] of h_s or of the entropy parameters."""
    sigma = x[..., : config.M]
    sigma = jnp.exp(jnp.clip(sigma, -20.0, 20.0)) if config.log_scale else sigma
    mu = x[..., config.M :] * config.hyper_scale if config.predicts_mean else jnp.zeros_like(sigma)
    return sigma, mu


def hyper_layers(
    config: Config, params: dict, z: Array, valid: Valid = None
) -> tuple[Array, Array, Array]:
    """Return the outputs of the three layers of h_s.

    [B,H/32,W/32,·], [B,H/16,W/16,·] and [B,H/16,W/16,M or 2M].
    """
    act = _activation(config)
    first = within(act(layers.up(params["deconv0"], z)), valid, 32)
    second = within(act(layers.up(params["deconv1"], first)), valid, 16)
    return first, second, layers.conv(params["conv2"], second)
