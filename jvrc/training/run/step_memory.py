"""A check of the memory that a training step takes, before it runs.

Otherwise, on a CPU, XLA aborts the process; on an accelerator, it names the size of one buffer.
"""

import os
from typing import Any

import jax


def compiled(step: Any, *arguments: Any, remedy: str = "") -> jax.stages.Compiled:
    """Return a jitted training step, compiled for arguments (shapes and dtypes).

    remedy: what helps beside a smaller batch or crop, if it needs too much memory.

    Raises:
      ValueError: it needs more memory than the first local device has, by XLA's count of buffers.
    """
    program = step.lower(*arguments).compile()
    found = program.memory_analysis()  # None where a backend does not count
    if found is not None:
        buffers = found.argument_size_in_bytes + found.temp_size_in_bytes
        check_memory(buffers, bytes_of(jax.local_devices()[0]), remedy)
    return program


def check_memory(needed: int, available: int | None, remedy: str = "") -> None:
    """Raise ValueError if a training step needs more bytes than available; None: unknown."""
    if available is not None and needed > available:
        raise ValueError(
            f"a training step needs {needed / 2**30:.1f} GiB of memory, the device has "
            f"{available / 2**30:.1f}: begin another run with a smaller --batch or --crop{remedy}"
        )


def bytes_of(device: jax.Device) -> int | None:
    """Return the memory of a device in bytes, for a CPU that of the machine; None if unknown."""
    if device.platform != "cpu":
        return (device.memory_stats() or {}).get("bytes_limit")
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows
        return None
