"""Types that all models share: latents, their noise, and the results of a forward pass."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
from jax import Array

# (values, scales), in units of Delta -> probability of the bin of width 1 around each value
Probability = Callable[[Array, Array], Array]


class Latents(NamedTuple):
    """The latents y and z of a batch; also noise, or gradients, of the same shapes."""

    y: Array  # [B,H/16,W/16,M]
    z: Array  # [B,H/64,W/64,N]


class Forward(NamedTuple):
    """The results of a forward pass with one qstep for each image."""

    x_hat: Array  # [B,H,W,3], not clipped
    bits_y: Array  # [B]
    bits_z: Array  # [B]


def draw_noise(key: Array, like: Latents) -> Latents:
    """Return noise uniform in [-1/2, 1/2), of the shapes and dtypes of y and z."""
    keys = jax.random.split(key)
    draw = partial(jax.random.uniform, minval=-0.5, maxval=0.5)
    y, z = like
    return Latents(draw(keys[0], y.shape, y.dtype), draw(keys[1], z.shape, z.dtype))
