"""Initialisers of kernels and biases: functions (key, shape) -> array."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

Initialiser = Callable[[Array, tuple[int, ...]], Array]


def constant(value: float) -> Initialiser:
    """Return an initialiser with one value."""
    return lambda key, shape: jnp.full(shape, value)


def uniform(bound: float) -> Initialiser:
    """Return an initialiser with values uniform in [-bound, bound)."""
    return lambda key, shape: jax.random.uniform(key, shape, minval=-bound, maxval=bound)


def fan_in(gain: float = 1.0) -> Initialiser:
    """Return an initialiser, uniform within gain / sqrt(fan in), as PyTorch's convolutions have.

    In transposed convolutions of stride 2 gain is 2: each output sees a quarter of the 25 taps.
    """
    return lambda key, shape: uniform(gain / math.prod(shape[:-1]) ** 0.5)(key, shape)


def first(count: int, value: float) -> Initialiser:
    """Return an initialiser for biases: the first `count` have this value, the others are zero."""
    return lambda key, shape: jnp.zeros(shape).at[:count].set(value)


def passing(matrix: Array) -> Initialiser:
    """Return an initialiser for 1x1 kernels whose first C outputs are x @ matrix [I,C].

    The other outputs start at random; behind the first layer (I < 2 C) they do not see the first C
    inputs.
    """

    def init(key: Array, shape: tuple[int, ...]) -> Array:
        inputs, count = matrix.shape
        kernel = fan_in()(key, shape).at[0, 0, :, :count].set(matrix)
        return kernel if inputs >= 2 * count else kernel.at[0, 0, :count, count:].set(0)

    return init


def normal(fan: int | None = None, gain: float = 1.0) -> Initialiser:
    """Return an initialiser, normal with standard deviation gain / sqrt(fan in).

    fan: the fan in, where it is not the product of all axes but the last.
    """

    def init(key: Array, shape: tuple[int, ...]) -> Array:
        count = math.prod(shape[:-1]) if fan is None else fan
        return gain / count**0.5 * jax.random.normal(key, shape)

    return init
