"""Freezing: from trained parameters to integer networks and CDF tables, computed in float64."""

import json
from dataclasses import asdict
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import expit, ndtr

from jvrc.coding import tables
from jvrc.export.format_fitting import drawn_sample, fit_format
from jvrc.frozen.file import as_stored, seal
from jvrc.frozen.model import OFFSET_UNIT, FrozenModel
from jvrc.integer import fixed_point
from jvrc.integer.hyper_synthesis import INDEX_COUNT, Z_EXPONENT, Z_MAX, scale_table
from jvrc.model import architectures, entropy_models, variable_rate
from jvrc.model.config import Config
from jvrc.qstep import QSTEP_CODE_MAX, QSTEP_CODE_MIN, qstep_of
from jvrc.runtime import devices

Z_STEPS_PER_OCTAVE = 8


def freeze(
    config: Config, params: dict, *, qstep_range: tuple[float, float], **metadata: Any
) -> FrozenModel:
    """Return a frozen model from trained parameters, to be calibrated (jvrc.export.calibration).

    qstep_range: the lowest and highest Delta in training; beyond these, all that depends on Delta
    stays as it is at the nearer of them. metadata: kept in the header as JSON (recipe, data
    statement, measured curve).

    The CPU computes all: products of an accelerator may be in TF32 or bfloat16, and dozens of small
    programs take long to compile there.

    Raises:
      ValueError: params are not finite or too large.
    """
    with jax.default_device(devices.cpu()):
        model = _frozen(config, jax.device_get(params), qstep_range, metadata)
    return seal(model)


def _frozen(
    config: Config, params: dict, qstep_range: tuple[float, float], metadata: dict[str, Any]
) -> FrozenModel:
    """Return what `freeze` returns, before `seal`."""
    config, params = architectures.with_scales(config, params)
    if "delta" in params:  # what is known of Delta is evaluated within the range trained
        params["delta"] = params["delta"] | {"range": jnp.array(qstep_range, jnp.float32)}
    params = as_stored(params)
    exponent = z_exponent(params)
    unit = 2.0**exponent
    medians = _integer_medians(params, unit)
    z_steps, z_step_index = z_step_grid(params, *qstep_range, unit)
    z_tables = _z_tables(params, medians, z_steps, unit)
    middle = len(z_steps) // 2
    sample = drawn_sample(config, params, z_tables[middle], medians, z_steps[middle], unit=unit)
    fixed_point_format = fit_format(config, params, [sample], qstep_range, z_exponent=exponent)
    return FrozenModel(
        params=params,
        fixed_point_format=fixed_point_format,
        network=fixed_point.quantise(config, params, fixed_point_format),
        medians=medians,
        offsets=offset_table(params, *qstep_range),
        z_steps=z_steps,
        z_step_index=z_step_index,
        z_tables=tables.concatenate(z_tables),
        y_tables=gaussian_tables(),
        config=config,
        model_id="",  # seal gives it
        fingerprint="",
        header=json.dumps(metadata | {"qstep_range": list(qstep_range)}),
    )


def freeze_run(run: Any, notes: dict[str, str]) -> FrozenModel:
    """Return the frozen model of a run of `jvrc train` (jvrc.training.run.run_folder.Run).

    notes: further entries of the header, beside the recipe and the number of training steps done.
    """
    recipe = asdict(run.recipe) | {"steps_done": run.step}
    return freeze(run.config, run.params, qstep_range=run.qstep_range, recipe=recipe, **notes)


def gaussian_tables() -> tables.CdfTables:
    """Return tables of round(v), v ~ N(0, s^2), for each scale s of `scale_table`."""

    def cdf(scale: float, x: np.ndarray) -> np.ndarray:
        return ndtr(x / scale)

    return tables.build([partial(cdf, s) for s in scale_table()], [0] * INDEX_COUNT)


def z_exponent(params: dict) -> int:
    """Return the exponent of the finest unit of z^, from Z_EXPONENT on, in which z fits.

    That is: values of z that the bottleneck does not hold for rare stay within Z_MAX units.
    """
    medians = np.asarray(entropy_models.medians(params["bottleneck"]), np.float64)
    if not np.all(np.abs(medians) <= Z_MAX):
        raise ValueError(_far_medians(medians))
    found = bottleneck_tables(params["bottleneck"], medians, 1.0)
    ends = np.stack([found.low, found.low + np.diff(found.start) - 2]) + medians
    return max(Z_EXPONENT, int(np.ceil(np.log2(np.abs(ends).max() / Z_MAX))))


def _z_tables(
    params: dict, medians: np.ndarray, z_steps: np.ndarray, unit: float
) -> list[tables.CdfTables]:
    """Return the tables of z, one for each channel, for each of z_steps, which are in `unit`."""
    points = medians * unit
    return [bottleneck_tables(params["bottleneck"], points, float(s * unit)) for s in z_steps]


def bottleneck_tables(bottleneck: dict, medians: np.ndarray, z_step: float) -> tables.CdfTables:
    """Return tables of round((z - m) / z_step) for each channel with median m.

    medians: float [N]. The cumulative distribution is that of the entropy bottleneck, evaluated in
    float64.
    """

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


@jax.jit
def _logits(bottleneck: dict, x: jax.Array) -> jax.Array:
    return entropy_models.bottleneck_logits(bottleneck, x[:, None])[:, 0]


def z_step_grid(
    params: dict, low: float, high: float, unit: float = 2.0**Z_EXPONENT
) -> tuple[np.ndarray, np.ndarray]:
    """Return (grid of Delta_z int32 [J] in units of `unit`, index int32 [769] by qstep code).

    low, high: Delta is clipped to these.
    """
    wanted = np.log2(np.asarray(variable_rate.z_step(params["z_step"], _qsteps(low, high))))
    on_grid = 2.0 ** (np.rint(wanted * Z_STEPS_PER_OCTAVE) / Z_STEPS_PER_OCTAVE)
    used, index = np.unique(np.maximum(1, np.rint(on_grid / unit)), return_inverse=True)
    return used.astype(np.int32), index.astype(np.int32)


def offset_table(params: dict, low: float, high: float) -> np.ndarray:
    """Return delta uint8 [769,90] in units of OFFSET_UNIT, by qstep code and scale index.

    low, high: Delta is clipped to these. delta is clipped to what uint8 holds.
    """
    scale, qstep = scale_table().astype(np.float32), _qsteps(low, high)
    delta = variable_rate.offset(params["offset"], jnp.asarray(scale)[None], qstep[:, None])
    return np.clip(np.rint(np.asarray(delta) / OFFSET_UNIT), 0, 255).astype(np.uint8)


def _qsteps(low: float, high: float) -> jax.Array:
    """Return Delta of every qstep code, clipped to low ... high: float32 [769]."""
    codes = range(QSTEP_CODE_MIN, QSTEP_CODE_MAX + 1)
    return jnp.clip(jnp.array([qstep_of(c) for c in codes], jnp.float32), low, high)


def _integer_medians(params: dict, unit: float) -> np.ndarray:
    """Return the medians of z, int32 [N], in units of `unit`."""
    medians = np.asarray(entropy_models.medians(params["bottleneck"]), np.float64)
    return np.rint(medians / unit).astype(np.int32)


def _far_medians(medians: np.ndarray) -> str:
    largest = np.abs(medians).max()
    return f"the medians of z must be within {Z_MAX}, one is {largest:.3g}: did training diverge?"
