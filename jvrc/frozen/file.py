"""The file of a frozen model: one safetensors file whose header carries the description.

The integers of the networks are not in it: they follow exactly from the float parameters and their
fixed-point formats, which are.
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
from jvrc.integer import fixed_point
from jvrc.io.files import write_bytes
from jvrc.model.config import Config


def _flatten(tree: dict, prefix: str) -> dict[str, np.ndarray]:
    out = {}
    for key, value in tree.items():
        name = f"{prefix}/{key}"
        out |= _flatten(value, name) if isinstance(value, dict) else {name: np.asarray(value)}
    return out


def _unflatten(tensors: dict[str, np.ndarray], prefix: str) -> dict:
    tree: dict = {}
    for name, value in tensors.items():
        head, *path = name.split("/")
        if head == prefix:
            node = tree
            for key in path[:-1]:
                node = node.setdefault(key, {})
            node[path[-1]] = value
    return tree


def _stored_type(name: str) -> type:
    return np.float16 if name.endswith("kernel") else np.float32


def as_stored(params: dict) -> dict:
    """Parameters as a file gives them back: kernels rounded to float16, all of them float32."""

    def rounded(path: tuple, a: Any) -> np.ndarray:
        return np.asarray(a).astype(_stored_type(path[-1].key)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(rounded, params)


def to_tensors(model: FrozenModel) -> dict[str, np.ndarray]:
    """The arrays by the names under which the file holds them; big kernels in float16."""
    tensors = {k: v.astype(_stored_type(k)) for k, v in _flatten(model.params, "params").items()}
    for name in ARRAYS:
        tensors[name] = np.asarray(getattr(model, name))
    for name in TABLES:
        for part, value in getattr(model, name)._asdict().items():
            tensors[f"{name}/{part}"] = np.asarray(value)
    for part, layers in model.units._asdict().items():
        for i, value in enumerate(layers):
            tensors[f"units/{part}/{i}"] = np.asarray(value)
    return {k: np.ascontiguousarray(v) for k, v in tensors.items()}


def fingerprint(tensors: dict[str, np.ndarray], config: Config) -> str:
    """The model id: eight hex digits of a SHA-256 over the description and all arrays."""
    digest = hashlib.sha256(json.dumps(config.to_dict(), sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype.str} {list(value.shape)}\n".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()[:8]


def from_tensors(tensors: dict[str, np.ndarray], header: str) -> FrozenModel:
    """The model that a file's arrays and header describe."""
    config = Config(**json.loads(header)["config"])
    params = jax.tree.map(lambda a: a.astype(np.float32), _unflatten(tensors, "params"))
    parts = _unflatten(tensors, "units")
    low, start = tensors["y_tables/low"], tensors["y_tables/start"]
    if not np.abs(low.astype(np.int64)).max() + np.diff(start).max() <= LIMIT:
        raise ValueError(f"y_tables must hold integers within {LIMIT}")
    found = (parts.get(k, {}) for k in fixed_point.Units._fields)
    units = fixed_point.Units(*(tuple(f[str(i)] for i in range(len(f))) for f in found))
    return FrozenModel(
        params=params,
        units=units,
        network=fixed_point.quantise(config, params, units),
        config=config,
        model_id=fingerprint(tensors, config),
        header=header,
        **{k: tensors[k] for k in ARRAYS},
        **{k: CdfTables(**_unflatten(tensors, k)) for k in TABLES},
    )


def seal(model: FrozenModel) -> FrozenModel:
    """The model as its file will hold it: kernels in float16, description and id in the header."""
    tensors = to_tensors(model)
    described = json.loads(model.header) | {
        "format": WEIGHTS_FORMAT,
        "config": model.config.to_dict(),
        "model_id": fingerprint(tensors, model.config),
    }
    return from_tensors(tensors, json.dumps(described, sort_keys=True))


def save_model(model: FrozenModel, path: str | Path) -> FrozenModel:
    """Writes the file (complete or not at all); returns the model as `read_model` will give it."""
    model = seal(model)
    metadata = {"jvrc": model.header}
    write_bytes(path, safetensors.numpy.save(to_tensors(model), metadata=metadata))
    return model


def annotate(path: str | Path, described: dict[str, Any]) -> FrozenModel:
    """Add to the header of a weights file; arrays and id stay. Raises as `read_model`."""
    model = read_model(path)
    return save_model(replace(model, header=json.dumps(model.metadata | described)), path)


def read_model(path: str | Path) -> FrozenModel:
    """Reads a frozen model.

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
    if model.model_id != described["model_id"]:
        raise ValueError(
            f"{path}: damaged: the arrays give model id {model.model_id}, "
            f"the header says {described['model_id']}"
        )
    return model
