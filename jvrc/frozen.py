"""A frozen model: parameters, and in integers all that a decoder derives from z and the step.

Saved as one safetensors file whose header carries the description. Nothing here is trained, and a
receiver computes no table; the integers of the networks follow exactly from what the file holds.

May import: images (to write files), step_grid, weights_header, model, coding.tables,
coding.escapes.
"""

import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

from jvrc import step_grid, weights_header
from jvrc.coding.escapes import LIMIT
from jvrc.coding.tables import SymbolTables
from jvrc.images import write_bytes
from jvrc.model import exact, rounding
from jvrc.model.config import Config

OFFSET_UNIT = 2.0**-9
_ARRAYS = ("medians", "offsets", "z_steps", "z_step_index")
_TABLES = ("z_tables", "y_tables")


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["params", "units", "network", *_ARRAYS, *_TABLES],
    meta_fields=["config", "model_id", "header"],
)
@dataclass(frozen=True, eq=False)
class FrozenModel:
    """What `jvrc.load` returns. A pytree; config, model_id and header are static.

    params: g_a, g_s, h_a, and those that only training needs (bottleneck, offset, z_step); h_s, and
      in mbt2018 context and entropy_parameters, are what training goes on with, and what `network`
      is made of when a model is sealed or read.
    units, network: how these are rounded, and the integers that code (jvrc.model.exact).
    medians: int32 [N], z_steps: int32 [J], the grid of Delta_z, both in units of 1/16.
    z_step_index: int32 [codes], by step code.
    offsets: uint8 [codes, 90], delta in units of 1/512, by step code and scale index.
    z_tables: J * N tables, y_tables: 90 tables.
    """

    params: dict
    units: rounding.Units
    network: exact.Network
    medians: np.ndarray
    offsets: np.ndarray
    z_steps: np.ndarray
    z_step_index: np.ndarray
    z_tables: SymbolTables
    y_tables: SymbolTables
    config: Config
    model_id: str  # eight hex digits
    header: str = field(repr=False)  # JSON

    @property
    def metadata(self) -> dict[str, Any]:
        """Recipe, licence, data statement and whatever else the file's header says."""
        return json.loads(self.header)

    def delta(self, index: np.ndarray, code: int) -> np.ndarray:
        """Reconstruction offsets (jvrc.model.variable_rate) from the table: float32, in steps.

        index: scale indices, uint8 of any shape, which the result has too. code: step code.
        """
        table = np.asarray(self.offsets)[code - step_grid.CODE_MIN].astype(np.float32)
        return (table * np.float32(OFFSET_UNIT))[index]


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
    for name in _ARRAYS:
        tensors[name] = np.asarray(getattr(model, name))
    for name in _TABLES:
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
    found = (parts.get(k, {}) for k in rounding.Units._fields)
    units = rounding.Units(*(tuple(f[str(i)] for i in range(len(f))) for f in found))
    return FrozenModel(
        params=params,
        units=units,
        network=rounding.quantise(config, params, units),
        config=config,
        model_id=fingerprint(tensors, config),
        header=header,
        **{k: tensors[k] for k in _ARRAYS},
        **{k: SymbolTables(**_unflatten(tensors, k)) for k in _TABLES},
    )


def seal(model: FrozenModel) -> FrozenModel:
    """The model as its file will hold it: kernels in float16, description and id in the header."""
    tensors = to_tensors(model)
    described = json.loads(model.header) | {
        "format": weights_header.FORMAT,
        "config": model.config.to_dict(),
        "model_id": fingerprint(tensors, model.config),
    }
    return from_tensors(tensors, json.dumps(described, sort_keys=True))


def save(model: FrozenModel, path: str | Path) -> FrozenModel:
    """Writes the file (complete or not at all); returns the model as `read` will give it."""
    model = seal(model)
    metadata = {"jvrc": model.header}
    write_bytes(path, safetensors.numpy.save(to_tensors(model), metadata=metadata))
    return model


def annotate(path: str | Path, described: dict[str, Any]) -> FrozenModel:
    """Adds to the header of a weights file; arrays and id stay as they are. Raises as `read`."""
    model = read(path)
    return save(replace(model, header=json.dumps(model.metadata | described)), path)


def read(path: str | Path) -> FrozenModel:
    """Reads a frozen model.

    Raises:
      FileNotFoundError: no such file.
      ValueError: not a weights file, or damaged: its arrays do not give the id in its header.
    """
    described = weights_header.read(path)
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
