"""The context model of mbt2018 on integers: the same sigma, mu and y^ on every machine.

What `exact` says of h_s holds here of the context's convolution, the entropy parameters network and
the reconstruction y^, for all of these feed back into what is decoded next. Sums are formed in
parts (jvrc.integer.fixed_point.layers), each within 2**24, and the parts are added in int32.

y^ is in units of 1/64, its offsets and step included; the context sees it coarser, by a shift for
each channel, saturated to FEATURE_MAX.
"""

from functools import cache
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jvrc.integer import hyper_synthesis
from jvrc.integer.hyper_synthesis import FEATURE_MAX, Network
from jvrc.model import context
from jvrc.model.config import Config

Y_LIMIT = 2**20  # |mu| saturates here, in units of 1/64
_STEP_EXPONENT = -10  # Delta is an integer number of 2**-10
_OFFSET_BITS = 9  # delta is an integer number of 2**-9
_PRODUCT_LIMIT = 2**30  # of (|q| - delta) * Delta: |y^ - mu| saturates at 2048


class Matrices(NamedTuple):
    """The kernels as float32 matrices, made once before a loop."""

    rows: tuple[Array, Array, Array]  # of the context: [5M,2M], [5M,2M], [2M,2M]
    first: Array  # [2M,.], from the context's features; psi's half is `psi_part`
    second: Array
    third: Array


def matrices(network: Network) -> Matrices:
    """The kernels of the context's four layers."""
    conv, first, second, third = (jnp.asarray(v.kernel, jnp.float32) for v in network.layers[3:])
    width = conv.shape[2]
    rows = tuple(conv[r].reshape(-1, width) for r in context.ROWS)
    return Matrices(rows, first[0, 0, width:], second[0, 0], third[0, 0])


def psi_part(config: Config, network: Network, z_hat: Array, valid: tuple) -> Array:
    """What h_s adds to the first layer of the entropy parameters: int32 [B,h,w,10M/3]."""
    psi = hyper_synthesis.hyper_layers(config, network, z_hat, valid)
    psi = jnp.clip(psi, -FEATURE_MAX, FEATURE_MAX)
    kernel = network.layers[4].kernel[0, 0, : 2 * config.M]
    return hyper_synthesis.product(psi, kernel).astype(jnp.int32)


def step_row(code: Array | int) -> Array | int:
    """The row of the context's biases for a step code."""
    return (code + 128 + 4) >> 3


def parameters(
    config: Config, network: Network, weights: Matrices, seen: tuple, psi: Array, bias: Array
) -> tuple[Array, Array]:
    """(log2 sigma, mu), int32 [...,M], as `hyper_synthesis.synthesise` gives them.

    seen: what the context sees, integers: [...,5M] and [...,5M] of the rows above, [...,2M] to the
    left. psi: as `psi_part` gives it. bias: int32 [2M], the context's at this step.
    """
    conv, first, second, third = network.layers[3:]
    parts = [
        hyper_synthesis.product(x, w).astype(jnp.int32)
        for x, w in zip(seen, weights.rows, strict=True)
    ]
    features = hyper_synthesis.shifted(conv._replace(bias=bias), sum(parts))
    features = jnp.clip(features, -FEATURE_MAX, FEATURE_MAX)
    total = hyper_synthesis.product(features, weights.first).astype(jnp.int32) + psi
    x = hyper_synthesis.activation(config, hyper_synthesis.shifted(first, total), FEATURE_MAX)
    x = hyper_synthesis.activation(
        config,
        hyper_synthesis.shifted(second, hyper_synthesis.product(x, weights.second)),
        FEATURE_MAX,
    )
    return hyper_synthesis.split_parameters(
        config, hyper_synthesis.shifted(third, hyper_synthesis.product(x, weights.third))
    )


def seen_latents(network: Network, q: Array, mu: Array, delta: Array, step: Array) -> Array:
    """What the context sees of y^ = mu + Delta * sign(q) * (|q| - delta): float32 integers [...,M].

    q: integers of y. mu: in each channel's unit. delta: int32, in 1/512. step: see `step_integer`.
    """
    size = jnp.where(q == 0, 0, (jnp.abs(q) << _OFFSET_BITS) - delta)
    size = jnp.minimum(size, _PRODUCT_LIMIT // step) * step
    down = hyper_synthesis.MU_EXPONENT - _STEP_EXPONENT + _OFFSET_BITS  # 13
    size = (size + (1 << down - 1)) >> down
    up = network.mu_exponent - hyper_synthesis.MU_EXPONENT
    limit = Y_LIMIT >> up
    y_hat = (jnp.clip(mu, -limit, limit) << up) + jnp.sign(q) * size
    shift = network.latent_shift
    coarse = (y_hat + ((1 << shift) >> 1)) >> shift
    return jnp.clip(coarse, -FEATURE_MAX, FEATURE_MAX).astype(jnp.float32)


@cache
def step_integer(code: int) -> int:
    """Delta = 2**(code / 128) in units of 2**-10, rounded; by integers alone."""
    n = round(2 ** (code / 128 - _STEP_EXPONENT))  # about there, then exactly
    power = 128 * (1 - _STEP_EXPONENT) + code
    while (2 * n + 1) ** 128 <= 1 << power:
        n += 1
    while (2 * n - 1) ** 128 > 1 << power:
        n -= 1
    return n
