"""The type of a frozen model: parameters, integer networks and integer CDF tables.

A frozen model is not trained further, and a decoder computes none of its tables. The integer
networks follow exactly from what the weights file holds (jvrc.frozen.file).
"""

import json
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import numpy as np

from jvrc.coding.tables import CdfTables
from jvrc.integer.context import OFFSET_EXPONENT
from jvrc.integer.formats import FixedPointFormat
from jvrc.integer.network import Network
from jvrc.integer.scale_refinement import ScaleRefinement
from jvrc.model.config import Config
from jvrc.qstep import qstep_row

OFFSET_UNIT = 2.0**OFFSET_EXPONENT  # of delta in FrozenModel.offsets
# Fields that the weights file holds as they are, and those that are CDF tables.
ARRAYS = ("medians", "offsets", "z_steps", "z_step_index")
TABLES = ("z_tables", "y_tables")


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["params", "fixed_point_format", "network", *ARRAYS, *TABLES, "refinement"],
    meta_fields=["config", "model_id", "fingerprint", "header"],
)
@dataclass(frozen=True, eq=False)
class FrozenModel:
    """A model ready for coding, as `jvrc.load` returns it.

    A pytree; config, model_id, fingerprint and header are static.

    Attributes:
      params: arrays by part (g_a, g_s, h_a, h_s, ...) and layer. Coding computes with g_a, g_s and
        h_a; the other parts are there for training, and `network` is derived from h_s and, in
        mbt2018, from context and entropy_parameters.
      fixed_point_format: how these are rounded to integers.
      network: the result (jvrc.integer).
      medians: int32 [N], of z, in units of `z_unit`.
      z_steps: int32 [J], the grid of Delta_z, in units of `z_unit`.
      z_step_index: int32 [769], the entry of z_steps for each qstep code (row `qstep_row`).
      offsets: uint8 [769,90], delta in units of OFFSET_UNIT, by qstep code and scale index.
      z_tables: J * N tables, by entry of z_steps and channel.
      y_tables: 90 tables, by scale index.
      model_id: eight hex digits by which streams name what decodes them. Models with the same id
        decode alike; what they make of an image may differ (jvrc.export.encoder).
      fingerprint: eight hex digits that depend on every array but those of the refinement. The
        id, unless that is inherited.
      refinement: None, or what refines scale indices (jvrc.integer.scale_refinement).
    """

    params: dict
    fixed_point_format: FixedPointFormat
    network: Network
    medians: np.ndarray
    offsets: np.ndarray
    z_steps: np.ndarray
    z_step_index: np.ndarray
    z_tables: CdfTables
    y_tables: CdfTables
    config: Config
    model_id: str
    fingerprint: str
    header: str = field(repr=False)  # JSON
    refinement: ScaleRefinement | None = None

    @property
    def metadata(self) -> dict[str, Any]:
        """The contents of the file's header: recipe, licence, data statement and more."""
        return json.loads(self.header)

    @property
    def refinement_id(self) -> str | None:
        """Eight hex digits by which streams name the refinement; None without one."""
        return self.metadata.get("refinement") if self.refinement else None

    @property
    def z_unit(self) -> float:
        """The unit of z^: z^ is an integer, within hyper_synthesis.Z_MAX, times this."""
        return 2.0**self.fixed_point_format.z_exponent

    def delta(self, index: np.ndarray, qstep_code: int) -> np.ndarray:
        """Return the reconstruction offsets delta: float32, in units of Delta, of index's shape.

        index: scale indices, uint8. See jvrc.model.variable_rate.reconstruct.
        """
        row = np.asarray(self.offsets)[qstep_row(qstep_code)].astype(np.float32)
        return (row * np.float32(OFFSET_UNIT))[index]
