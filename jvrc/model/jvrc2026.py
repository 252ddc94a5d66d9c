"""The transforms and context model of jvrc2026: pure functions of config, parameters and input.

    x [B,H,W,3] in [0,1]   y, mu, sigma [B,H/16,W/16,M]   z [B,H/64,W/64,N]   H, W multiples of 64

g_a and g_s are residual blocks of depthwise convolutions at 1/8 of the size (jvrc.model.residual);
g_a does not know Delta, g_s and the context model do. Scales sigma come from z^ alone, so all of y
is entropy coded in one pass. Means are refined in four steps of reconstructed latents: channel c of
group floor(4 c / M) is reconstructed in step s at the position number (s + group) mod 4 of each 2x2
block of latents. A mean only moves a reconstruction: its rounding error stays one.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jvrc.model import layers, transforms
from jvrc.model.residual import (
    after_film,
    before_film,
    block_count,
    delta_features,
    dense,
    film,
    residual_block,
)
from jvrc.model.transforms import Valid, within

STEPS = 4  # of the context model; the first one has the means of h_s
_BLOCK = 8  # pixels to a sample of the blocks
_POSITIONS = ((0, 0), (1, 1), (0, 1), (1, 0))  # (row, column) of a 2x2 block, by number


def space_to_depth(x: Array, size: int) -> Array:
    """[B,H,W,C] -> [B,H/size,W/size,size*size*C], channels in the order (row, column, C)."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // size, size, w // size, size, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h // size, w // size, size * size * c)


def depth_to_space(x: Array, size: int) -> Array:
    """The inverse of `space_to_depth`."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, size, size, c // size**2).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h * size, w * size, c // size**2)


def features_of(params: dict, qstep: Array) -> Array | None:
    """Return what g_s and the context model know of Delta [B]: [B,E]; None if they don't."""
    return delta_features(params["delta"], qstep) if "delta" in params else None


def g_a(config: Any, params: dict, x: Array, valid: Valid = None) -> Array:
    """Analysis transform: image -> y."""
    x = dense(params["first"], space_to_depth(within(x - 0.5, valid, 1), _BLOCK))
    for i in range(block_count(params)):
        x = residual_block(params[f"block{i}"], x, None, valid, _BLOCK)
    return layers.down(params["down"], within(x, valid, _BLOCK)) * config.latent_scale


def g_s(
    config: Any, params: dict, y_hat: Array, features: Array | None = None, valid: Valid = None
) -> Array:
    """Synthesis transform: y^ -> image, not clipped. features: of Delta, from `features_of`."""
    x = film(params.get("film"), features, y_hat / config.latent_scale)
    x = depth_to_space(dense(params["up"], x), 2)
    for i in range(block_count(params)):
        x = residual_block(params[f"block{i}"], x, features, valid, _BLOCK)
    return depth_to_space(dense(params["last"], x), _BLOCK) + 0.5


def at_features(params: dict, features: Array) -> dict:
    """Return the parameters of g_s or of the context model without films, for one Delta.

    features: of Delta, [1,E]. Films take a tenth of the time of g_s; folded, they take none.
    """
    found = {name: value for name, value in params.items() if not name.startswith("film")}
    if "up" in params:
        found["up"] = after_film(params["up"], params.get("film"), features)
    for i in range(1, STEPS):
        if f"in{i}" in params:
            found[f"in{i}"] = before_film(params[f"in{i}"], params.get(f"film{i}"), features)
    for name in [name for name in found if name.startswith("block")]:
        block = dict(params[name])
        block["in"] = after_film(block["in"], block.pop("film0", None), features)
        block["wide"] = after_film(block["wide"], block.pop("film1", None), features)
        found[name] = block
    return found


def hyper_parameters(config: Any, params: dict, z_hat: Array) -> tuple[Array, Array]:
    """Return (sigma, first mean m0 in units of hyper_scale), each [B,H/16,W/16,M], by h_s."""
    out = transforms.hyper_layers(config, params, z_hat)[-1]
    return jnp.exp(jnp.clip(out[..., : config.M], -20.0, 20.0)), out[..., config.M :]


def step_numbers(m: int, height: int, width: int) -> np.ndarray:
    """Return the step of each latent: uint8 [height,width,M], both sides even."""
    group = np.arange(m) * STEPS // m
    numbers = np.argsort([2 * row + column for row, column in _POSITIONS]).reshape(2, 2)
    steps = (numbers[..., None] - group) % STEPS
    return np.tile(steps.astype(np.uint8), (height // 2, width // 2, 1))


def step_mask(config: Any, step: int, height: int, width: int) -> np.ndarray:
    """Return which latents are reconstructed in a step: bool [height,width,M], both sides even."""
    return step_numbers(config.M, height, width) == step


def means(
    config: Any,
    params: dict,
    step: int,
    known: Array,
    first: Array,
    features: Array | None = None,
    valid: Valid = None,
) -> Array:
    """Return mu [B,h,w,M] of a step from what earlier ones reconstructed.

    known: y^ [B,h,w,M] of earlier steps, zero elsewhere. first: m0, in units of hyper_scale.
    """
    if step == 0:
        return first * config.hyper_scale
    x = dense(params[f"in{step}"], jnp.concatenate([known / config.hyper_scale, first], axis=-1))
    x = film(params.get(f"film{step}"), features, x)
    for i in range(block_count(params)):
        x = residual_block(params[f"block{i}"], x, None, valid, 16)
    return (first + dense(params[f"out{step}"], x)) * config.hyper_scale
