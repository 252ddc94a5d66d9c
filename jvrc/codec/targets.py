"""What a file is compressed to: a quantisation step, bytes, bits per pixel or a PSNR."""

import math
from typing import Any, NamedTuple

from jvrc.qstep import qstep_code_of

_MOST_BYTES = 2**62  # more is the same


class Target(NamedTuple):
    """One of three, the others are None."""

    qstep_code: int | None = None
    bytes: int | None = None
    psnr: float | None = None  # dB


def target_of(
    size: tuple[int, int],
    *,
    qstep: Any,
    target_bytes: Any,
    target_bpp: Any,
    target_psnr: Any,
) -> Target:
    """Return the one target that is given for an image of so many rows and columns.

    Raises:
      ValueError: not exactly one is given, or it is no positive number.
    """
    given = {
        "qstep": qstep,
        "target_bytes": target_bytes,
        "target_bpp": target_bpp,
        "target_psnr": target_psnr,
    }
    names = [name for name, value in given.items() if value is not None]
    if len(names) != 1:
        found = ", ".join(f"{name}={given[name]!r}" for name in names) or "none"
        raise ValueError(f"exactly one of {', '.join(given)} must be given, got {found}")
    (name,) = names
    if name == "qstep":
        return Target(qstep_code=qstep_code_of(qstep))
    value = _positive(name, given[name])
    if name == "target_psnr":
        return Target(psnr=value)
    size_in_bytes = value if name == "target_bytes" else value * math.prod(size) / 8
    return Target(bytes=math.floor(min(size_in_bytes, _MOST_BYTES)))


def _positive(name: str, given: Any) -> float:
    unit = {"target_bytes": "bytes", "target_bpp": "bits per pixel", "target_psnr": "dB"}[name]
    try:
        value = math.nan if isinstance(given, (str, bytes, bool)) else float(given)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be a positive number of {unit}, got {given!r}")
    return value
