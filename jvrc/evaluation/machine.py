"""A description of the machine that a measurement ran on."""

import platform
from importlib import metadata
from pathlib import Path

from jvrc.runtime import devices


def describe() -> str:
    """Return processor, cores, system, Python and the versions of JAX, NumPy and Pillow."""
    packages = ", ".join(f"{p} {metadata.version(p)}" for p in ("jax", "numpy", "pillow"))
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return f"{_processor()}, {devices.cores()} cores, {system}, {packages}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"
