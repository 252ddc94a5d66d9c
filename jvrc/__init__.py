"""jvrc: learned image compression, one model for all rates, in pure JAX.

    params = jvrc.load("mbt2018-mean")
    data = jvrc.compress(params, img, qstep=4)      # bytes
    img = jvrc.decompress(params, data)             # uint8 [H,W,3]

Names load on first use, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jvrc.codec import compress, decompress
    from jvrc.errors import BitstreamError
    from jvrc.frozen import FrozenModel
    from jvrc.shipped import load, models
    from jvrc.step_grid import QSTEP_MAX, QSTEP_MIN

__version__ = "0.1.0"

_HOMES = {
    "BitstreamError": "jvrc.errors",
    "FrozenModel": "jvrc.frozen",
    "QSTEP_MAX": "jvrc.step_grid",
    "QSTEP_MIN": "jvrc.step_grid",
    "compress": "jvrc.codec",
    "decompress": "jvrc.codec",
    "load": "jvrc.shipped",
    "models": "jvrc.shipped",
}

__all__ = [
    "QSTEP_MAX",
    "QSTEP_MIN",
    "BitstreamError",
    "FrozenModel",
    "compress",
    "decompress",
    "load",
    "models",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'jvrc' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOMES))
