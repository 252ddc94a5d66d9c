"""The weights file of a frozen model: safetensors, with a JSON description in its metadata.

jvrc/coding/FORMAT.md, section 4, lists the names of its tensors. The integer networks are not in
the file: they follow exactly from the float parameters and the fixed-point format, which are.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

from jvrc.coding.escapes import LIMIT
from jvrc.coding.tables import CdfTables
from jvrc.frozen.header import WEIGHTS_FORMAT, read_header
from jvrc.frozen.model import ARRAYS, TABLES, FrozenModel
from jvrc.integer import fixed_point, scale_refinement
from jvrc.integer.formats import FixedPointFormat, LayerFormat
from jvrc.integer.scale_refinement import ScaleRefinement
from jvrc.io.files import write_bytes
from jvrc.model.config import Config, config_of

Tensors = dict[str, np.ndarray]

# The layers with the numbers 0, 1, ... in the tensors "units/exponents/0", "units/shifts/0" and,
# where a layer saturates channel by channel, "units/low/0", "units/high/0", ...
_LAYERS = (
    *("h_s/deconv0", "h_s/deconv1", "h_s/conv2", "context/conv"),
    *("entropy_parameters/conv0", "entropy_parameters/conv1", "entropy_parameters/conv2"),
)
_FORMAT_TENSORS = ("units/exponents", "units/shifts", "units/low", "units/high")
_REFINEMENT = "refinement/"
_LATENT_SHIFT, _CONTEXT_BIAS, _Z_UNIT = "units/latent/0", "units/bias/0", "units/z/0"


def read_model(path: str | Path) -> FrozenModel:
    """Read a frozen model.

    Raises:
      FileNotFoundError: no such file.
      ValueError: not a weights file, or damaged: its arrays do not give the id in its header.
    """
    described = read_header(path)
    try:
        tensors = safetensors.numpy.load_file(path)
        model = from_tensors(tensors, json.dumps(described, sort_keys=True))
    except (LookupError, TypeError, ValueError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path}: damaged: {error!r}") from error
    said = described.get("fingerprint", described["model_id"])
    if model.fingerprint != said:
        raise ValueError(
            f"{path}: damaged: the arrays give the fingerprint {model.fingerprint}, "
            f"the header says {said}"
        )
    if (found := _refinement_id(tensors)) != described.get("refinement"):
        raise ValueError(
            f"{path}: damaged: the arrays give the refinement {found}, the header says "
            f"{described.get('refinement')}"
        )
    return model


def save_model(model: FrozenModel, path: str | Path) -> FrozenModel:
    """Write the file, atomically; return the model as `read_model` will give it."""
    model = seal(model)
    metadata = {"jvrc": model.header}
    write_bytes(path, safetensors.numpy.save(to_tensors(model), metadata=metadata))
    return model


def seal(model: FrozenModel) -> FrozenModel:
    """Return the model as its file will hold it, with kernels of float16 precision and its id.

    The id is the fingerprint of the arrays, unless these are still those that inherited another.
    """
    tensors = to_tensors(model)
    found = fingerprint(tensors, model.config)
    described = model.metadata | {"config": model.config.to_dict()}
    if described.get("fingerprint") != found:
        described.pop("fingerprint", None)
        described |= {"format": WEIGHTS_FORMAT, "model_id": found}
    described.pop("refinement", None)
    if model.refinement:
        described["refinement"] = _refinement_id(tensors)
    return from_tensors(tensors, json.dumps(described, sort_keys=True))


def annotate(path: str | Path, described: dict[str, Any]) -> FrozenModel:
    """Add to the header of a weights file; arrays and id stay. Raises as `read_model`."""
    model = read_model(path)
    return save_model(replace(model, header=json.dumps(model.metadata | described)), path)


def as_stored(params: dict) -> dict:
    """Return parameters as a file gives them back: float32, kernels rounded to float16."""

    def rounded(path: tuple, a: Any) -> np.ndarray:
        return np.asarray(a).astype(_stored_type(path[-1].key)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(rounded, params)


def fingerprint(tensors: Tensors, config: Config) -> str:
    """Return eight hex digits of a SHA-256 over the config and all arrays but a refinement's."""
    others = {k: v for k, v in tensors.items() if not k.startswith(_REFINEMENT)}
    return _digits(others, json.dumps(config.to_dict(), sort_keys=True))


def _refinement_id(tensors: Tensors) -> str | None:
    """Return eight hex digits of a SHA-256 over the arrays of a refinement; None without one."""
    found = {k: v for k, v in tensors.items() if k.startswith(_REFINEMENT)}
    return _digits(found, "") if found else None


def _digits(tensors: Tensors, text: str) -> str:
    """Return eight hex digits of a SHA-256 over a text and arrays."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype.str} {list(value.shape)}\n".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()[:8]


def to_tensors(model: FrozenModel) -> Tensors:
    """Return the arrays by the names under which the file holds them, big kernels in float16."""
    tensors = {k: v.astype(_stored_type(k)) for k, v in _flatten(model.params, "params").items()}
    tensors |= {name: getattr(model, name) for name in ARRAYS}
    for name in TABLES:
        tensors |= _flatten(getattr(model, name)._asdict(), name)
    tensors |= _format_tensors(model.fixed_point_format)
    if model.refinement:
        tensors |= _flatten(model.refinement._asdict(), "refinement")
    return {k: np.ascontiguousarray(v) for k, v in tensors.items()}


def from_tensors(tensors: Tensors, header: str) -> FrozenModel:
    """Return the model that a file's arrays and header describe."""
    described = json.loads(header)
    config = config_of(**described["config"])
    params = jax.tree.map(lambda a: a.astype(np.float32), _unflatten(tensors, "params"))
    _check_reach(tensors)
    fixed_point_format = _read_format(tensors)
    return FrozenModel(
        params=params,
        fixed_point_format=fixed_point_format,
        network=fixed_point.quantise(config, params, fixed_point_format),
        config=config,
        model_id=described["model_id"],
        fingerprint=fingerprint(tensors, config),
        header=header,
        refinement=_read_refinement(tensors, config),
        **{k: tensors[k] for k in ARRAYS},
        **{k: CdfTables(**_unflatten(tensors, k)) for k in TABLES},
    )


def _format_tensors(fixed_point_format: FixedPointFormat) -> Tensors:
    tensors = {}
    for i, name in enumerate(_LAYERS):
        if name in fixed_point_format.layers:
            layer = fixed_point_format.layers[name]
            arrays = zip(_FORMAT_TENSORS, layer, strict=True)
            tensors |= {f"{kind}/{i}": a for kind, a in arrays if a is not None}
    if fixed_point_format.latent_shift is not None:
        tensors[_LATENT_SHIFT] = fixed_point_format.latent_shift
        tensors[_CONTEXT_BIAS] = fixed_point_format.context_bias
    if fixed_point_format.z_unit is not None:
        tensors[_Z_UNIT] = fixed_point_format.z_unit
    return tensors


def _read_format(tensors: Tensors) -> FixedPointFormat:
    layers = {
        name: LayerFormat(*(tensors.get(f"{kind}/{i}") for kind in _FORMAT_TENSORS))
        for i, name in enumerate(_LAYERS)
        if f"units/exponents/{i}" in tensors
    }
    others = (tensors.get(name) for name in (_LATENT_SHIFT, _CONTEXT_BIAS, _Z_UNIT))
    return FixedPointFormat(layers, *others)


def _read_refinement(tensors: Tensors, config: Config) -> ScaleRefinement | None:
    """Return the refinement of scales that a file holds, if it does; ValueError if it is wrong."""
    arrays = _unflatten(tensors, "refinement")
    if not arrays:
        return None
    refinement = ScaleRefinement(**arrays)
    scale_refinement.check(refinement, config.M)
    return refinement


def _check_reach(tensors: Tensors) -> None:
    """Raise ValueError if a table of y holds integers that no stream can."""
    low, start = tensors["y_tables/low"], tensors["y_tables/start"]
    if not np.abs(low.astype(np.int64)).max() + np.diff(start).max() <= LIMIT:
        raise ValueError(f"y_tables must hold integers within {LIMIT}")


def _stored_type(name: str) -> type:
    return np.float16 if name.endswith("kernel") else np.float32


def _flatten(tree: dict, prefix: str) -> Tensors:
    """Return the arrays of a tree of dicts, by their paths: "prefix/key/key"."""
    out = {}
    for key, value in tree.items():
        name = f"{prefix}/{key}"
        out |= _flatten(value, name) if isinstance(value, dict) else {name: np.asarray(value)}
    return out


def _unflatten(tensors: Tensors, prefix: str) -> dict:
    """Return the inverse of `_flatten`, of the tensors whose path begins with the prefix."""
    tree: dict = {}
    for name, value in tensors.items():
        head, *path = name.split("/")
        if head == prefix:
            node = tree
            for key in path[:-1]:
                node = node.setdefault(key, {})
            node[path[-1]] = value
    return tree
