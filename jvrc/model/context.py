"""The context model of mbt2018: sigma and mu from the hyper latent and what was decoded before.

Minnen et al. 2018, Sec. 3; the learned function of 1 / Delta that is added to the context's features
is that of Kamisli et al. 2024. A position sees the 12 before it, in raster order, of the 5x5 around
it: two rows above and two samples to the left.

    psi [B,h,w,2M]  what h_s gives      y^ [B,h,w,M]  latents as the decoder knows them

May import: ops, transforms, config.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax

from jvrc.model import ops, transforms
from jvrc.model.config import Config

SIZE = 5  # of the masked kernel
# (row, column) offsets of the samples that a position sees, in the order of the kernel's taps
TAPS = tuple((r, c) for r in (-2, -1, 0) for c in (-2, -1, 0, 1, 2) if (r, c) < (0, 0))
# The entropy parameters network starts as the identity of psi, which these keep positive, where
# LeakyReLU is the identity too: logarithms of sigma, and mu / hyper_scale.
_SHIFT_SIGMA, _SHIFT_MU = 6.0, 16.0


def widths(config: Config) -> tuple[int, int, int, int]:
    """Channels before, between and after the layers of the entropy parameters network."""
    m = config.M
    return 4 * m, m * 10 // 3, m * 8 // 3, 2 * m


def init_context(key: Array, config: Config) -> dict:
    """conv: [5,5,M,2M], of which the taps behind the centre are not used; step: [1,2M]."""
    conv = ops.conv_init(key, SIZE, config.M, 2 * config.M, gain=0.1)
    conv["kernel"] *= _mask()[:, :, None, None]
    step = {"kernel": jnp.zeros((1, 2 * config.M)), "bias": jnp.zeros(2 * config.M)}
    return {"conv": conv, "step": step}


def init_entropy_parameters(key: Array, config: Config) -> dict:
    """conv0 … conv2, 1x1: psi + context passes through 2 M of the units, others start at random."""
    keys, sizes, m = jax.random.split(key, 3), widths(config), 2 * config.M
    layers = {f"conv{i}": ops.conv_init(keys[i], 1, sizes[i], sizes[i + 1]) for i in range(3)}
    eye = jnp.eye(m)
    shift = jnp.repeat(jnp.array([_SHIFT_SIGMA, _SHIFT_MU]), config.M)
    through = [jnp.concatenate([eye, eye]), jnp.eye(sizes[1], m), jnp.eye(sizes[2], m)]
    for i, matrix in enumerate(through):
        layers[f"conv{i}"]["kernel"] = layers[f"conv{i}"]["kernel"].at[0, 0, :, :m].set(matrix)
    layers["conv0"]["bias"] = layers["conv0"]["bias"].at[:m].set(shift)
    layers["conv2"]["bias"] = -shift
    return layers


def _mask() -> Array:
    return jnp.zeros((SIZE, SIZE)).at[jnp.array(TAPS)[:, 0] + 2, jnp.array(TAPS)[:, 1] + 2].set(1)


def features(config: Config, params: dict, y_hat: Array, qstep: Array) -> Array:
    """The context's features [B,h,w,2M] of y^; qstep broadcasts to [B,h,w,1]."""
    kernel = params["conv"]["kernel"]
    x = y_hat / config.hyper_scale
    # whole rows above, then the samples to the left: 12 taps and not 25 with a mask
    above = _convolve(x, kernel[:2], ((2, -1), (2, 2)))
    left = _convolve(x, kernel[2:3, :2], ((0, 0), (2, -1)))
    step = (1 / qstep) * params["step"]["kernel"][0] + params["step"]["bias"]
    return above + left + params["conv"]["bias"] + step


def entropy_parameters(config: Config, params: dict, psi: Array, context: Array) -> tuple:
    """(sigma, mu), each [B,h,w,M], from what h_s and the context model give."""
    x = jnp.concatenate([psi, context], axis=-1)
    for i in range(3):
        x = x @ params[f"conv{i}"]["kernel"][0, 0] + params[f"conv{i}"]["bias"]
        x = ops.leaky_relu(x) if i < 2 else x
    return transforms.split_parameters(config, x)


def _convolve(x: Array, kernel: Array, pad: tuple) -> Array:
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), pad, dimension_numbers=layout)
