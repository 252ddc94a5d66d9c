"""The context model of mbt2018: sigma and mu from the hyper latent and what was decoded before.

Minnen et al. 2018, Sec. 3; the function of 1 / Delta that is added to the context's features is
that of Kamisli et al. 2024. A position sees the 12 before it, in raster order, of the 5x5 around
it: two rows above and two samples to the left.

    psi [B,h,w,2M]  what h_s gives      y^ [B,h,w,M]  latents as the decoder knows them
"""

import jax
import jax.numpy as jnp
from jax import Array, lax

from jvrc.model import layers, transforms
from jvrc.model.config import Config

# Taps of the masked 5x5 kernel in raster order: five two rows above, five above, two to the left.
ROWS = (slice(0, 5), slice(5, 10), slice(10, 12))


def widths(config: Config) -> tuple[int, int, int, int]:
    """Channels before, between and after the layers of the entropy parameters network."""
    m = config.M
    return 4 * m, m * 10 // 3, m * 8 // 3, 2 * m


def init_context(key: Array, config: Config) -> dict:
    """conv: [12,M,2M], the taps that the mask leaves; step: [1,2M]; starts near zero."""
    conv = layers.conv_init(key, 5, config.M, 2 * config.M, gain=0.1)
    conv["kernel"] = conv["kernel"].reshape(25, config.M, -1)[:12]
    step = {"kernel": jnp.zeros((1, 2 * config.M)), "bias": jnp.zeros(2 * config.M)}
    return {"conv": conv, "step": step}


def init_entropy_parameters(key: Array, config: Config, shift: Array | float = 8.0) -> dict:
    """conv0 … conv2, 1x1: the identity of psi + context while these are above -shift ([2M]).

    2 M units of each layer pass them on, kept positive by the shift, where LeakyReLU is the
    identity too. The other units start at random and reach the last layer with training.
    """
    keys, sizes, m = jax.random.split(key, 3), widths(config), 2 * config.M
    params = {f"conv{i}": layers.conv_init(keys[i], 1, sizes[i], sizes[i + 1]) for i in range(3)}
    eye = jnp.eye(m)
    through = [jnp.concatenate([eye, eye]), jnp.eye(sizes[1], m), jnp.eye(sizes[2], m)]
    for i, matrix in enumerate(through):
        kernel = params[f"conv{i}"]["kernel"].at[0, 0, :, :m].set(matrix)
        params[f"conv{i}"]["kernel"] = kernel if i == 0 else kernel.at[0, 0, :m, m:].set(0)
    shift = jnp.broadcast_to(jnp.asarray(shift, jnp.float32), (m,))
    params["conv0"]["bias"] = params["conv0"]["bias"].at[:m].set(shift)
    params["conv2"]["bias"] = -shift
    return params


def step_bias(params: dict, qstep: Array) -> Array:
    """What is added to the context's features: [...,1] -> [...,2M]."""
    step = (1 / qstep) * params["step"]["kernel"][0] + params["step"]["bias"]
    return params["conv"]["bias"] + step


def features(config: Config, params: dict, y_hat: Array, qstep: Array) -> Array:
    """The context's features [B,h,w,2M] of y^; qstep broadcasts to [B,h,w,1]."""
    kernel, x = params["conv"]["kernel"], y_hat / config.hyper_scale
    # whole rows above, then the samples to the left: 12 taps and not 25 with a mask
    above = _convolve(x, kernel[:10].reshape(2, 5, *kernel.shape[1:]), ((2, -1), (2, 2)))
    left = _convolve(x, kernel[None, ROWS[2]], ((0, 0), (2, -1)))
    return above + left + step_bias(params, qstep)


def hidden_layers(params: dict, psi: Array, context: Array) -> tuple[Array, Array, Array]:
    """What each layer of the entropy parameters network gives, the last: [B,h,w,2M]."""
    x, found = jnp.concatenate([psi, context], axis=-1), []
    for i in range(3):
        x = x @ params[f"conv{i}"]["kernel"][0, 0] + params[f"conv{i}"]["bias"]
        x = layers.leaky_relu(x) if i < 2 else x
        found.append(x)
    return tuple(found)


def entropy_parameters(config: Config, params: dict, psi: Array, context: Array) -> tuple:
    """(sigma, mu), each [B,h,w,M], from what h_s and the context model give."""
    return transforms.split_parameters(config, hidden_layers(params, psi, context)[-1])


def _convolve(x: Array, kernel: Array, pad: tuple) -> Array:
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), pad, dimension_numbers=layout)
