"""The context model of mbt2018: sigma and mu from the hyper latent and the latents decoded before.

Minnen et al. 2018, Sec. 3; the function of 1 / Delta that is added to the context's features is
that of Kamisli et al. 2024. Of the 5x5 latents around a position, the context model sees the 12
that come before it in raster order: two rows above and two latents to the left.

    psi [B,h,w,2M]  output of h_s      y^ [B,h,w,M]  reconstructed latents
"""

import jax.numpy as jnp
from jax import Array, lax

from jvrc.model import layers, transforms
from jvrc.model.config import Config

# The 12 taps of the masked 5x5 kernel in raster order: row -2, row -1, two left of the centre.
ROWS = (slice(0, 5), slice(5, 10), slice(10, 12))


def widths(config: Config) -> tuple[int, int, int, int]:
    """Return the channels before, between and after the entropy parameters layers."""
    m = config.M
    return 4 * m, m * 10 // 3, m * 8 // 3, 2 * m


def with_linear_range(params: dict, reach: Array | float) -> dict:
    """Return a new entropy parameters network that is linear while its inputs are above -reach.

    2M units of each layer of such a network pass psi + context on (`modules.EntropyParameters`).
    The bias `reach` (a number, or [2M]) keeps them positive, where LeakyReLU is the identity; the
    last layer subtracts it again.
    """
    first, last = params["conv0"], params["conv2"]
    count = last["bias"].shape[0]
    reach = jnp.broadcast_to(jnp.asarray(reach, jnp.float32), (count,))
    first = first | {"bias": jnp.asarray(first["bias"]).at[:count].set(reach)}
    return params | {"conv0": first, "conv2": last | {"bias": -reach}}


def step_bias(params: dict, qstep: Array) -> Array:
    """Return the bias [...,2M] of the context's features at qstep [...,1]: linear in 1 / Delta."""
    shape = (*jnp.shape(qstep)[:-1], params["conv"]["bias"].shape[0])
    kernel, bias, conv_bias = (
        jnp.broadcast_to(a, shape)
        for a in (params["step"]["kernel"][0], params["step"]["bias"], params["conv"]["bias"])
    )
    return conv_bias + ((1 / qstep) * kernel + bias)


def features(config: Config, params: dict, y_hat: Array, qstep: Array) -> Array:
    """Return the context's features [B,h,w,2M] of y^; qstep: a number or [B,1,1,1]."""
    kernel, x = params["conv"]["kernel"], y_hat / config.hyper_scale
    # the rows above, then the latents to the left: 12 taps instead of 25 with a mask
    above = _convolve(x, kernel[:10].reshape(2, 5, *kernel.shape[1:]), ((2, -1), (2, 2)))
    left = _convolve(x, kernel[None, ROWS[2]], ((0, 0), (2, -1)))
    both = above + left
    return both + jnp.broadcast_to(step_bias(params, qstep), both.shape)


def hidden_layers(params: dict, psi: Array, context: Array) -> tuple[Array, Array, Array]:
    """Return the outputs of the three entropy parameters layers, the last one [...,2M]."""
    x, outputs = jnp.concatenate([psi, context], axis=-1), []
    for i in range(3):
        layer = params[f"conv{i}"]
        x = layers.add_bias(x @ layer["kernel"][0, 0], layer["bias"])
        x = layers.leaky_relu(x) if i < 2 else x
        outputs.append(x)
    return tuple(outputs)


def entropy_parameters(config: Config, params: dict, psi: Array, context: Array) -> tuple:
    """Return (sigma, mu), each [B,h,w,M], from the outputs of h_s and of the context model."""
    return transforms.split_parameters(config, hidden_layers(params, psi, context)[-1])


def _convolve(x: Array, kernel: Array, pad: tuple) -> Array:
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), pad, dimension_numbers=layout)
