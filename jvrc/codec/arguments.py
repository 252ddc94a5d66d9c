"""Checks of what a user passes to the public functions, before any work."""

import os
from numbers import Integral, Real
from typing import Any

EFFORT_MAX = 3


def check_params(params: Any) -> None:
    """Raise ValueError unless params is a frozen model."""
    from jvrc.frozen.model import FrozenModel  # imports JAX, which describing a file does not need

    if isinstance(params, FrozenModel):
        return
    rule = "params must be a frozen model, as jvrc.load returns it"
    if isinstance(params, str | os.PathLike):
        raise ValueError(f"{rule}; got {params!r}: pass jvrc.load({str(params)!r})")
    remedy = ": freeze trained parameters first (jvrc freeze)" if isinstance(params, dict) else ""
    raise ValueError(f"{rule}; got {_kind(params)}{remedy}")


def check_data(data: Any) -> None:
    """Raise ValueError unless data is bytes."""
    if isinstance(data, bytes | bytearray | memoryview):
        return
    rule = "data must be bytes, the content of a file"
    if isinstance(data, str | os.PathLike):
        raise ValueError(f"{rule}; got {data!r}: pass pathlib.Path({str(data)!r}).read_bytes()")
    raise ValueError(f"{rule}; got {_kind(data)}")


def check_max_pixels(max_pixels: Any) -> None:
    """Raise ValueError unless max_pixels is None or a number of at least 1."""
    number = isinstance(max_pixels, Real) and not isinstance(max_pixels, bool)
    if max_pixels is not None and not (number and max_pixels >= 1):
        rule = "max_pixels must be a number of at least 1, or None"
        raise ValueError(f"{rule}; got {max_pixels!r}")


def check_effort(effort: int) -> None:
    """Raise ValueError unless effort is an integer in 0 … EFFORT_MAX."""
    whole = isinstance(effort, Integral) and not isinstance(effort, bool)
    if not whole or not 0 <= effort <= EFFORT_MAX:
        raise ValueError(f"effort must be an integer in 0 … {EFFORT_MAX}; got {effort!r}")


def check_bools(**options: Any) -> None:
    """Raise ValueError unless all options are bools."""
    for name, value in options.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be True or False; got {value!r}")


def check_masking(masking: bool, effort: int) -> None:
    """Raise ValueError unless masking is a bool, and False without effort."""
    check_bools(masking=masking)
    if masking and not effort:
        rule = "masking needs an effort of 1 or more, for it weighs what that search minimises"
        raise ValueError(f"{rule}; got effort={effort}")


def _kind(value: Any) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
