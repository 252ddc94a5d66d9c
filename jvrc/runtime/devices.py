"""The devices that JAX sees: the CPU, which the entropy coder needs, is always among them."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jax

_VARIABLE = "JAX_PLATFORMS"
_without_cpu = ""  # what the user chose, where that lacked the CPU


def add_cpu() -> None:
    """Add the CPU to the platforms that JAX_PLATFORMS names; call it before JAX is imported."""
    global _without_cpu
    wanted = os.environ.get(_VARIABLE, "")
    _without_cpu = "" if "cpu" in wanted.lower().split(",") else wanted
    if _without_cpu:
        os.environ[_VARIABLE] = f"{wanted},cpu"


def check() -> None:
    """Check that JAX has the devices that JAX_PLATFORMS names.

    Raises:
      RuntimeError: it has not; the message, one line, has the remedy.
    """
    import jax

    wanted = _without_cpu or os.environ.get(_VARIABLE, "")
    try:
        found = jax.default_backend()
    except (RuntimeError, AssertionError) as error:
        raise _missing(wanted) from error
    if _without_cpu and found == "cpu":  # JAX has fallen back on what `add_cpu` added
        raise _missing(wanted)


def cpu() -> "jax.Device":
    """Return the CPU.

    Raises:
      RuntimeError: JAX was told to do without; the message has the remedy.
    """
    import jax

    try:
        return jax.local_devices(backend="cpu")[0]
    except (RuntimeError, AssertionError) as error:
        raise RuntimeError(
            f"jvrc decodes on the CPU, which JAX was told to do without: add cpu to {_VARIABLE}, "
            f"as in {_VARIABLE}=cuda,cpu; it is {os.environ.get(_VARIABLE) or 'not set'}"
        ) from error


def cores() -> int:
    """Return how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _missing(wanted: str) -> RuntimeError:
    if not wanted:
        return RuntimeError("JAX finds no device: is jaxlib installed for this machine?")
    return RuntimeError(
        f"{_VARIABLE}={wanted}: JAX finds no such device here; unset {_VARIABLE}, set it to cpu, "
        "or install JAX for that device"
    )
