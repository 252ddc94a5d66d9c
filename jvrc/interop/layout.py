"""The arrays of CompressAI's models: names, shapes, and where they go in jvrc's parameters.

CompressAI's layouts: a convolution [O,I,k,k], a transposed convolution [I,O,k,k], GDN's gamma and a
dense layer [O,I].
"""

from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

import numpy as np

from jvrc.model import context
from jvrc.model.config import Config


class Entry(NamedTuple):
    """One array: its name and shape in the state dict, its path in `params` and its conversion."""

    name: str
    shape: tuple[int, ...]
    path: tuple[str, ...]
    convert: Callable[[np.ndarray], np.ndarray] = np.asarray


def is_vbr(names: Collection[str]) -> bool:
    """Return True if a state dict with these names is that of a variable-rate model."""
    return "Gain" in names or any(name.startswith("QuantABCD.") for name in names)


def arrays_of(config: Config, names: Collection[str]) -> Iterator[Entry]:
    """Yield every array that the model must have; the names of its state dict tell its variant."""
    n, m = config.N, config.M
    down, up = (3, n, n, n, m), (m, n, n, n, 3)
    for i in range(4):
        yield from _conv(f"g_a.{2 * i}", ("g_a", f"conv{i}"), 5, down[i], down[i + 1])
        yield from _deconv(f"g_s.{2 * i}", ("g_s", f"deconv{i}"), 5, up[i], up[i + 1])
    for i in range(3):
        yield from _gdn(f"g_a.{2 * i + 1}", ("g_a", f"gdn{i}"), n)
        yield from _gdn(f"g_s.{2 * i + 1}", ("g_s", f"igdn{i}"), n)
    yield from _conv("h_a.0", ("h_a", "conv0"), 3, m, n)
    yield from _conv("h_a.2", ("h_a", "conv1"), 5, n, n)
    yield from _conv("h_a.4", ("h_a", "conv2"), 5, n, n)
    w = config.hyper_widths
    yield from _deconv("h_s.0", ("h_s", "deconv0"), 5, w[0], w[1])
    yield from _deconv("h_s.2", ("h_s", "deconv1"), 5, w[1], w[2])
    yield from _conv("h_s.4", ("h_s", "conv2"), 3, w[2], w[3])
    yield from _bottleneck(n)
    if config.has_context:
        yield from _context_model(config)
    if is_vbr(names):
        yield from _mlp("QuantABCD", "offset", (2, 12, 12, 1))
        if config.has_context:
            yield from _dense("scale_to_context", ("context", "step"), 1, 2 * m)
    if any(name.startswith("gayn2zqstep.") for name in names):
        yield from _mlp("gayn2zqstep", "z_step", (1, 10, 10, 1))


def _context_model(config: Config) -> Iterator[Entry]:
    m, v = config.M, context.widths(config)
    path = ("context", "conv")
    yield Entry("context_prediction.weight", (2 * m, m, 5, 5), (*path, "kernel"), _unmasked)
    yield Entry("context_prediction.bias", (2 * m,), (*path, "bias"))
    for i in range(3):
        where = ("entropy_parameters", f"conv{i}")
        yield from _conv(f"entropy_parameters.{2 * i}", where, 1, v[i], v[i + 1])


def _bottleneck(channels: int) -> Iterator[Entry]:
    sizes = (1, 3, 3, 3, 3, 1)
    found = {"quantiles": (1, 3)}
    for i, (f_in, f_out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        found |= {f"matrix{i}": (f_out, f_in), f"bias{i}": (f_out, 1)}
        found |= {f"factor{i}": (f_out, 1)} if i < 4 else {}
    for name, shape in found.items():
        yield Entry(f"entropy_bottleneck.{name}", (channels, *shape), ("bottleneck", name))


def _conv(name: str, path: tuple[str, ...], size: int, in_: int, out: int) -> Iterator[Entry]:
    yield Entry(f"{name}.weight", (out, in_, size, size), (*path, "kernel"), _from_oihw)
    yield Entry(f"{name}.bias", (out,), (*path, "bias"))


def _deconv(name: str, path: tuple[str, ...], size: int, in_: int, out: int) -> Iterator[Entry]:
    yield Entry(f"{name}.weight", (in_, out, size, size), (*path, "kernel"), _from_iohw)
    yield Entry(f"{name}.bias", (out,), (*path, "bias"))


def _gdn(name: str, path: tuple[str, ...], channels: int) -> Iterator[Entry]:
    yield Entry(f"{name}.beta", (channels,), (*path, "beta"))
    yield Entry(f"{name}.gamma", (channels, channels), (*path, "gamma"), np.transpose)


def _dense(name: str, path: tuple[str, ...], in_: int, out: int, i: str = "") -> Iterator[Entry]:
    yield Entry(f"{name}.weight", (out, in_), (*path, f"kernel{i}"), np.transpose)
    yield Entry(f"{name}.bias", (out,), (*path, f"bias{i}"))


def _mlp(name: str, part: str, sizes: tuple[int, ...]) -> Iterator[Entry]:
    for i, (in_, out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        yield from _dense(f"{name}.{2 * i}", (part,), in_, out, str(i))


def _from_oihw(weight: np.ndarray) -> np.ndarray:
    return weight.transpose(2, 3, 1, 0)


def _from_iohw(weight: np.ndarray) -> np.ndarray:
    return weight.transpose(2, 3, 0, 1)


def _unmasked(weight: np.ndarray) -> np.ndarray:
    """Return the kernel of the 12 taps that the mask of the context model leaves: [12,I,O]."""
    kernel = _from_oihw(weight)
    return kernel.reshape(25, *kernel.shape[2:])[:12]
