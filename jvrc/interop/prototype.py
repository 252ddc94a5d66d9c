"""Conversion of the parameters of jvrc2026's prototype, as its training program saves them.

They are arrays in .npz files, float32 or float16, with names joined by dots: "g_a.block0.b_in". In
the residual parts "b_in" is the bias of "in"; the other names are kernels.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from zipfile import BadZipFile

import jax
import numpy as np

from jvrc.model.config import Jvrc2026Config, config_of

_UNIT, _HYPER_SCALE = 0.06, 8.0  # constants of the prototype; latent_scale is 1 / _UNIT
_RESIDUAL = ("g_a", "g_s", "context")  # the parts whose arrays have other names in jvrc
_LAYERS = {"dw": "depthwise", "w0": "kernel", "b0": "bias"}
_SHOWN = 3  # names in an error
# What NumPy raises for a file that is no .npz, and the rest of this module for other arrays.
_UNREADABLE = (ValueError, TypeError, LookupError, EOFError, BadZipFile)

Arrays = Mapping[str, np.ndarray]


def is_prototype(path: str | Path) -> bool:
    """Return True if `read_prototype` finds files at this path."""
    return bool(_files(path))


def read_prototype(path: str | Path) -> tuple[Jvrc2026Config, dict]:
    """Return (config, parameters in float32) of the prototype's files.

    path: NAME.npz, or NAME for the files NAME-0.npz, NAME-1.npz, … that share the arrays.

    Raises:
      FileNotFoundError: there are no such files.
      ValueError: they do not hold all parameters of a model, or others.
    """
    files = _files(path)
    if not files:
        raise FileNotFoundError(f"{path}: no such file, and no {Path(path).name}-0.npz")
    try:
        arrays = {name: a.astype(np.float32) for file in files for name, a in _read(file)}
        config, params = prototype_config(arrays), _nested(arrays)
    except _UNREADABLE as error:
        raise ValueError(f"{path}: no parameters of jvrc2026's prototype: {error!r}") from error
    _check(f"{path}", config, params)
    return config, params


def prototype_config(arrays: Arrays) -> Jvrc2026Config:
    """Return the config of the prototype's arrays by name, from their shapes."""
    shape = {name: value.shape for name, value in arrays.items()}
    blocks = {part: _block_count(part, shape) for part in _RESIDUAL}
    found = {
        "C": shape["g_a.first"][1],
        "M": shape["g_a.down"][-1],
        "N": shape["h_a.conv0.kernel"][-1],
        "K": shape["context.in1"][1],
        "H": shape["h_s.deconv1.kernel"][2],
        "E": shape["delta.b0"][0],
        "h_s_kernel": shape["h_s.conv2.kernel"][0],
    } | {f"{part}_blocks": count for part, count in blocks.items()}
    part = next((part for part, count in blocks.items() if count), None)
    if part is not None:
        width, wide = shape[f"{part}.block0.wide"]
        found |= {"expansion": wide // width, "fold": wide // shape[f"{part}.block0.back"][0]}
    scales = {"latent_scale": 1 / _UNIT, "hyper_scale": _HYPER_SCALE}
    return config_of("jvrc2026", **found, **scales)


def _files(path: str | Path) -> list[Path]:
    path = Path(path)
    if path.exists():
        return [path] if path.is_file() and path.suffix == ".npz" else []
    return sorted(path.parent.glob(f"{path.name.removesuffix('.npz')}-[0-9].npz"))


def _read(file: Path) -> Iterator[tuple[str, np.ndarray]]:
    with file.open("rb") as stream, np.load(stream) as arrays:
        yield from arrays.items()


def _block_count(part: str, names: Mapping) -> int:
    return len({n.split(".")[1] for n in names if n.startswith(f"{part}.block")})


def _nested(arrays: Arrays) -> dict:
    params: dict = {}
    for name, value in arrays.items():
        *folders, last = _path(name)
        node = params
        for key in folders:
            node = node.setdefault(key, {})
        node[last] = value
    return params


def _path(name: str) -> tuple[str, ...]:
    """Return where an array goes in the parameters: "g_a.b_down" -> ("g_a", "down", "bias")."""
    part, *folders, last = name.split(".")
    if part in _RESIDUAL:
        kind = "bias" if last.startswith("b_") else "kernel"
        layer = last.removeprefix("b_")
        return (part, *folders, _LAYERS.get(layer, layer), kind)
    return (part, *folders, _LAYERS.get(last, last) if part == "delta" else last)


def _check(where: str, config: Jvrc2026Config, params: dict) -> None:
    """Raise ValueError unless params have the names and shapes of the config, and are finite."""
    from jvrc.model.modules import init_params  # Flax: only where parameters are made

    fresh = jax.eval_shape(partial(init_params, config=config), jax.random.key(0))
    expected, found = _shapes(fresh), _shapes(params)
    wrong = sorted(n for n in expected | found if expected.get(n) != found.get(n))
    if wrong:
        listed = ", ".join(f"{n} {found.get(n, 'missing')}" for n in wrong[:_SHOWN])
        raise ValueError(f"{where}: not the arrays of {config}: {listed}")
    if not all(np.isfinite(a).all() for a in jax.tree.leaves(params)):
        raise ValueError(f"{where}: parameters must be finite, and are not")


def _shapes(params: dict) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {"/".join(key.key for key in path): leaf.shape for path, leaf in leaves}
