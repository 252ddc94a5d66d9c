"""JAX's options for finding faults in a program, which jvrc sets aside for its own functions."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax

from jvrc.runtime import devices

_Function = TypeVar("_Function", bound=Callable)


def without_guards(function: _Function) -> _Function:
    """Let a function move arrays between host and devices, jit, and compute in 32 bits.

    The codec does so by nature: JAX_TRANSFER_GUARD=disallow, JAX_DISABLE_JIT=1 and
    JAX_ENABLE_X64=1 are meant for the code around it. Raises RuntimeError, with the remedy, where
    JAX_PLATFORMS names a device that is not there.
    """

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        devices.check()
        with jax.transfer_guard("allow"), jax.disable_jit(False), jax.enable_x64(False):
            return function(*args, **kwargs)

    return call
