"""The type of a frozen model: parameters, integer networks and integer tables.

Nothing here is trained, and a receiver computes no table; the integers of the networks follow
exactly from what the model's file holds (jvrc.frozen.file).
"""

import json
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import numpy as np

from jvrc.coding.tables import CdfTables
from jvrc.integer import fixed_point, hyper_synthesis
from jvrc.model.config import Config
from jvrc.qstep import QSTEP_CODE_MIN

OFFSET_UNIT = 2.0**-9
# Fields that the file holds as they are, and those that are tables.
ARRAYS = ("medians", "offsets", "z_steps", "z_step_index")
TABLES = ("z_tables", "y_tables")


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["params", "units", "network", *ARRAYS, *TABLES],
    meta_fields=["config", "model_id", "header"],
)
@dataclass(frozen=True, eq=False)
class FrozenModel:
    """What `jvrc.load` returns. A pytree; config, model_id and header are static.

    params: g_a, g_s, h_a, and those that only training needs (bottleneck, offset, z_step); h_s, and
      in mbt2018 context and entropy_parameters, are what training goes on with, and what `network`
      is made of when a model is sealed or read.
    units, network: how these are rounded, and the integers that code (jvrc.integer).
    medians: int32 [N], z_steps: int32 [J], the grid of Delta_z, both in units of 1/16.
    z_step_index: int32 [codes], by step code.
    offsets: uint8 [codes, 90], delta in units of 1/512, by step code and scale index.
    z_tables: J * N tables, y_tables: 90 tables.
    """

    params: dict
    units: fixed_point.Units
    network: hyper_synthesis.Network
    medians: np.ndarray
    offsets: np.ndarray
    z_steps: np.ndarray
    z_step_index: np.ndarray
    z_tables: CdfTables
    y_tables: CdfTables
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
        table = np.asarray(self.offsets)[code - QSTEP_CODE_MIN].astype(np.float32)
        return (table * np.float32(OFFSET_UNIT))[index]
