"""From trained parameters to a frozen model: the tables are made here, once, in float64.

May import: frozen, step_grid, model, coding.tables.
"""

import json
from dataclasses import asdict
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import expit, ndtr

from jvrc import frozen, step_grid
from jvrc.coding import tables
from jvrc.model import architectures, entropy, variable_rate
from jvrc.model.config import Config

Z_STEPS_PER_OCTAVE = 8


def scale_table() -> np.ndarray:
    """The 64 values of sigma / Delta with a table each, 0.11 … 256, float64."""
    exponents = frozen.SCALE_LOG2_MIN + frozen.SCALE_LOG2_RATIO * np.arange(frozen.SCALE_COUNT)
    return 2.0**exponents


def gaussian_tables() -> tables.SymbolTables:
    """Tables of round(v), v ~ N(0, s^2), for each scale s of `scale_table`."""

    def cdf(scale: float, x: np.ndarray) -> np.ndarray:
        return ndtr(x / scale)

    return tables.build([partial(cdf, s) for s in scale_table()], [0] * frozen.SCALE_COUNT)


@jax.jit
def _logits(bottleneck: dict, x: jax.Array) -> jax.Array:
    return entropy.bottleneck_logits(bottleneck, x[:, None])[:, 0]


def bottleneck_tables(bottleneck: dict, medians: np.ndarray, z_step: float) -> tables.SymbolTables:
    """Tables of round((z - m) / z_step) for each channel, centred at its median m."""

    @cache  # all channels at once, for every channel asks for the same points
    def cumulative(first: float, count: int) -> np.ndarray:
        points = medians[:, None] + z_step * (first + np.arange(count))
        with jax.enable_x64(True):
            wide = {k: np.asarray(v, np.float64) for k, v in bottleneck.items()}
            return expit(np.asarray(_logits(wide, points)))

    def cdf(channel: int, x: np.ndarray) -> np.ndarray:
        return cumulative(float(x[0]), len(x))[channel]

    channels = range(len(medians))
    return tables.build([partial(cdf, c) for c in channels], [0] * len(medians))


def z_step_grid(params: dict, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """(grid of Delta_z float32 [J], index int32 [codes]); steps outside low … high are clipped."""
    wanted = np.log2(np.asarray(variable_rate.z_step(params["z_step"], _qsteps(low, high))))
    code = np.rint(wanted * Z_STEPS_PER_OCTAVE).astype(int)
    used, index = np.unique(code, return_inverse=True)
    return (2.0 ** (used / Z_STEPS_PER_OCTAVE)).astype(np.float32), index.astype(np.int32)


def offset_table(params: dict, low: float, high: float) -> np.ndarray:
    """delta float32 [codes, 64] in [0, 0.5], by step code and scale; steps clipped to the range."""
    scale, qstep = scale_table().astype(np.float32), _qsteps(low, high)
    delta = variable_rate.offset(params["offset"], jnp.asarray(scale)[None], qstep[:, None])
    return np.clip(np.asarray(delta, np.float32), 0.0, 0.5)


def _qsteps(low: float, high: float) -> jax.Array:
    """Every step of the grid, clipped to the trained range: float32 [codes]."""
    codes = range(step_grid.CODE_MIN, step_grid.CODE_MAX + 1)
    return jnp.clip(jnp.array([step_grid.qstep_of(c) for c in codes], jnp.float32), low, high)


def freeze(
    config: Config, params: dict, *, qstep_range: tuple[float, float], **metadata: Any
) -> frozen.FrozenModel:
    """A frozen model from trained parameters.

    qstep_range: the steps that training saw; outside, what depends on the step stays at the nearest
    one. metadata: anything JSON, kept in the header (recipe, data statement, measured curve).
    """
    config, params = architectures.with_scales(config, params)
    medians = np.asarray(entropy.medians(params["bottleneck"]), np.float32)
    z_steps, z_step_index = z_step_grid(params, *qstep_range)
    z_tables = [bottleneck_tables(params["bottleneck"], medians, float(s)) for s in z_steps]
    described = metadata | {"qstep_range": list(qstep_range)}
    model = frozen.FrozenModel(
        params=params,
        medians=medians,
        offsets=offset_table(params, *qstep_range),
        z_steps=z_steps,
        z_step_index=z_step_index,
        z_tables=_concatenate(z_tables),
        y_tables=gaussian_tables(),
        config=config,
        model_id="00000000",
        header=json.dumps(described),
    )
    return frozen.seal(model)


def freeze_run(run: Any, notes: dict[str, str]) -> frozen.FrozenModel:
    """Freezes a run of `jvrc train`; its recipe and the steps done go into the header."""
    recipe = asdict(run.recipe)
    return freeze(
        run.config,
        run.params,
        qstep_range=run.recipe.qstep_range(),
        recipe=recipe | {"steps_done": run.step},
        **notes,
    )


def _concatenate(parts: list[tables.SymbolTables]) -> tables.SymbolTables:
    sizes = np.concatenate([np.diff(p.start) for p in parts])
    return tables.SymbolTables(
        freq=np.concatenate([p.freq for p in parts]),
        start=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32),
        low=np.concatenate([p.low for p in parts]),
    )
