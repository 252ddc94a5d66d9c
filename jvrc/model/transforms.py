"""The four transforms g_a, g_s, h_a, h_s as pure functions of (config, parameters, input).

Ballé et al. 2018 (bmshj2018, Fig. 4) and Minnen et al. 2018 (mbt2018; its context model is
jvrc.model.context).

    x [B,H,W,3] in [0,1]   y, mu, sigma [B,H/16,W/16,M]   z [B,H/64,W/64,N]   H, W multiples of 64

`valid` = (top, bottom, left, right), in pixels, names the part of a tile that lies inside the
picture. Everything outside is held at zero between layers, which is what zero padding at the
picture's border means; so a tile, or a picture enlarged to a rounder size, gives the same values
as the picture alone. Latents that enter must be zero outside; sigma and mu are undefined there.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jvrc.model import layers
from jvrc.model.config import Config

Valid = tuple[Array | int, Array | int, Array | int, Array | int] | None


def within(x: Array, valid: Valid, stride: int) -> Array:
    """Zero outside the valid rectangle, given in pixels, of features at 1/stride of the size."""
    if valid is None:
        return x
    top, bottom, left, right = valid
    rows = jnp.arange(x.shape[1]) * stride
    cols = jnp.arange(x.shape[2]) * stride
    inside = ((rows >= top) & (rows < bottom))[:, None] & ((cols >= left) & (cols < right))
    return jnp.where(inside[:, :, None], x, 0)


def g_a(config: Config, params: dict, x: Array, valid: Valid = None) -> Array:
    """Analysis transform: picture -> y."""
    x = within(x, valid, 1)
    for i in range(4):
        x = layers.down(params[f"conv{i}"], x)
        if i < 3:
            x = layers.gdn(params[f"gdn{i}"], x)
        x = within(x, valid, 2 << i)
    return x * config.latent_scale


def g_s(config: Config, params: dict, y: Array, valid: Valid = None) -> Array:
    """Synthesis transform: reconstructed y -> picture, not clipped."""
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
    """Hyper analysis: y -> z. The scale hyperprior sees |y|."""
    act = _activation(config)
    x = (y if config.predicts_mean else jnp.abs(y)) / config.hyper_scale
    x = within(act(layers.conv(params["conv0"], x)), valid, 16)
    x = within(act(layers.down(params["conv1"], x)), valid, 32)
    return within(layers.down(params["conv2"], x), valid, 64)


def h_s(config: Config, params: dict, z: Array, valid: Valid = None) -> tuple[Array, Array]:
    """Hyper synthesis: reconstructed z -> (sigma, mu), each [B,H/16,W/16,M]; mu is 0 if none.

    sigma is positive when config.log_scale; otherwise any real, bounded below by its users.
    """
    return split_parameters(config, hyper_layers(config, params, z, valid)[-1])


def split_parameters(config: Config, x: Array) -> tuple[Array, Array]:
    """(sigma, mu) from the last layer [...,M or 2M] of h_s, or of the network behind a context."""
    sigma = x[..., : config.M]
    sigma = jnp.exp(jnp.clip(sigma, -20.0, 20.0)) if config.log_scale else sigma
    mu = x[..., config.M :] * config.hyper_scale if config.predicts_mean else jnp.zeros_like(sigma)
    return sigma, mu


def hyper_layers(
    config: Config, params: dict, z: Array, valid: Valid = None
) -> tuple[Array, Array, Array]:
    """What each layer of h_s gives: [B,H/32,W/32,.], [B,H/16,W/16,.], [B,H/16,W/16,M or 2 M]."""
    act = _activation(config)
    first = within(act(layers.up(params["deconv0"], z)), valid, 32)
    second = within(act(layers.up(params["deconv1"], first)), valid, 16)
    return first, second, layers.conv(params["conv2"], second)


def hyper_widths(config: Config) -> tuple[int, int, int, int]:
    """Channels before, between and after the layers of h_s."""
    n, m = config.N, config.M
    return (n, m, m * 3 // 2, 2 * m) if config.predicts_mean else (n, n, n, m)


def init_g_a(key: Array, config: Config) -> dict:
    """3 -> N -> N -> N -> M channels; conv0 … conv3, gdn0 … gdn2."""
    keys = jax.random.split(key, 4)
    widths = (3, config.N, config.N, config.N, config.M)
    params = {f"conv{i}": layers.conv_init(keys[i], 5, widths[i], widths[i + 1]) for i in range(4)}
    return params | {f"gdn{i}": layers.gdn_init(config.N) for i in range(3)}


def init_g_s(key: Array, config: Config) -> dict:
    """M -> N -> N -> N -> 3 channels; deconv0 … deconv3, igdn0 … igdn2."""
    keys = jax.random.split(key, 4)
    widths = (config.M, config.N, config.N, config.N, 3)
    params = {
        # each output pixel sees a quarter of the 25 taps
        f"deconv{i}": layers.conv_init(keys[i], 5, widths[i], widths[i + 1], gain=2.0)
        for i in range(4)
    }
    return params | {f"igdn{i}": layers.gdn_init(config.N) for i in range(3)}


def init_h_a(key: Array, config: Config) -> dict:
    """M -> N -> N -> N channels; conv0 … conv2."""
    k0, k1, k2 = jax.random.split(key, 3)
    n, m = config.N, config.M
    return {
        "conv0": layers.conv_init(k0, 3, m, n),
        "conv1": layers.conv_init(k1, 5, n, n),
        "conv2": layers.conv_init(k2, 5, n, n),
    }


def init_h_s(key: Array, config: Config) -> dict:
    """N -> M -> 3 M / 2 -> 2 M channels (no mean: N -> N -> N -> M); deconv0, deconv1, conv2."""
    k0, k1, k2 = jax.random.split(key, 3)
    n, mid, wide, out = hyper_widths(config)
    return {
        "deconv0": layers.conv_init(k0, 5, n, mid, gain=2.0),
        "deconv1": layers.conv_init(k1, 5, mid, wide, gain=2.0),
        "conv2": layers.conv_init(k2, 3, wide, out),
    }
