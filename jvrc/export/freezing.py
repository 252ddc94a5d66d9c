"""From trained parameters to a frozen model: tables in float64 and integer networks, once."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import expit, ndtr

from jvrc.coding import tables
from jvrc.frozen.file import as_stored, seal
from jvrc.frozen.model import OFFSET_UNIT, FrozenModel
from jvrc.integer import fixed_point, hyper_synthesis
from jvrc.model import context, entropy_models, hyperprior, transforms, variable_rate
from jvrc.model.config import Config
from jvrc.qstep import CODES_PER_OCTAVE, QSTEP_CODE_MAX, QSTEP_CODE_MIN, qstep_of

Z_STEPS_PER_OCTAVE = 8
_UNIT = 2.0**hyper_synthesis.Z_EXPONENT


def gaussian_tables() -> tables.CdfTables:
    """Tables of round(v), v ~ N(0, s^2), for each scale s of `hyper_synthesis.scale_table`."""

    def cdf(scale: float, x: np.ndarray) -> np.ndarray:
        return ndtr(x / scale)

    return tables.build(
        [partial(cdf, s) for s in hyper_synthesis.scale_table()], [0] * hyper_synthesis.INDEX_COUNT
    )


@jax.jit
def _logits(bottleneck: dict, x: jax.Array) -> jax.Array:
    return entropy_models.bottleneck_logits(bottleneck, x[:, None])[:, 0]


def bottleneck_tables(bottleneck: dict, medians: np.ndarray, z_step: float) -> tables.CdfTables:
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
    """(grid of Delta_z int32 [J] in units of 1/16, index int32 [codes]).

    Steps outside low … high are clipped to them.
    """
    wanted = np.log2(np.asarray(variable_rate.z_step(params["z_step"], _qsteps(low, high))))
    on_grid = 2.0 ** (np.rint(wanted * Z_STEPS_PER_OCTAVE) / Z_STEPS_PER_OCTAVE)
    used, index = np.unique(np.rint(on_grid / _UNIT), return_inverse=True)
    return used.astype(np.int32), index.astype(np.int32)


def offset_table(params: dict, low: float, high: float) -> np.ndarray:
    """delta uint8 [codes, 90] in units of 1/512, by step code and scale, clipped to uint8.

    Steps outside low … high are clipped to them.
    """
    scale, qstep = hyper_synthesis.scale_table().astype(np.float32), _qsteps(low, high)
    delta = variable_rate.offset(params["offset"], jnp.asarray(scale)[None], qstep[:, None])
    return np.clip(np.rint(np.asarray(delta) / OFFSET_UNIT), 0, 255).astype(np.uint8)


def drawn_latents(z_tables: tables.CdfTables, medians: np.ndarray, z_step: int) -> np.ndarray:
    """z^ int32 [64,64,N], in units of 1/16, drawn independently from the tables of z."""
    rng, values = np.random.default_rng(0), []
    for channel, low in enumerate(z_tables.low):
        cumulative = np.cumsum(z_tables.select(channel, 1).freq, dtype=np.int64)
        symbol = np.searchsorted(cumulative, rng.integers(tables.TOTAL, size=64 * 64), "right")
        values.append(low + symbol)
    z_hat = np.stack(values, axis=-1).reshape(64, 64, -1) * z_step + medians
    return np.clip(z_hat, -hyper_synthesis.Z_MAX, hyper_synthesis.Z_MAX).astype(np.int32)


class Sample(NamedTuple):
    """Latents that activations are measured on."""

    z_hat: np.ndarray  # int [h,w,N], in units of 1/16
    y: np.ndarray | None  # float32 [4h,4w,M], in the place of y^; models without context need none
    qstep: float


def fitted_units(
    config: Config, params: dict, samples: Iterable[Sample], qstep_range: tuple[float, float]
) -> fixed_point.Units:
    """Units in which no activation saturates for the samples, of any sizes.

    qstep_range: as in `freeze`.
    """
    largest = [
        _activation_ranges(config, params, s.z_hat.astype(np.float32) * _UNIT, s.y, s.qstep)
        for s in samples
    ]
    ranges = [np.max(layer, axis=0) for layer in zip(*largest, strict=True)]
    if not config.has_context:
        return fixed_point.choose_units(config, params, ranges)
    units = fixed_point.choose_units(config, params, ranges[1:], ranges[0])
    return fixed_point.with_bias(units, context_bias(params, *qstep_range))


@partial(jax.jit, static_argnums=0)
def _activation_ranges(
    config: Config, params: dict, z_hat: jax.Array, y: jax.Array | None, qstep: jax.Array
) -> list[jax.Array]:
    """Largest magnitudes [C] behind each layer but the last; for mbt2018 that of y comes first."""
    layers = transforms.hyper_layers(config, params["h_s"], z_hat[None])
    if not config.has_context:
        return [jnp.abs(a[0]).max((0, 1)) for a in layers[:2]]
    seen = context.features(config, params["context"], y[None], qstep)
    behind = context.hidden_layers(params["entropy_parameters"], layers[2], seen)
    return [jnp.abs(a).max((0, 1, 2)) for a in (y[None], *layers, seen, *behind[:2])]


@partial(jax.jit, static_argnums=0)
def _drawn_y(config: Config, params: dict, z_hat: jax.Array, key: jax.Array) -> jax.Array:
    """y drawn from what z^ alone says of it: float32 [4h,4w,M]."""
    psi = transforms.hyper_layers(config, params["h_s"], z_hat[None])[-1]
    nothing = jnp.zeros_like(psi)
    sigma, mu = context.entropy_parameters(config, params["entropy_parameters"], psi, nothing)
    # what is outside of any picture's range saturates: it must not make all units coarse
    sigma, mu = jnp.minimum(sigma, 64.0), jnp.clip(mu, -256.0, 256.0)
    return (mu + sigma * jax.random.normal(key, mu.shape))[0]


def _drawn_sample(config: Config, params: dict, z_hat: np.ndarray) -> Sample:
    if not config.has_context:
        return Sample(z_hat, None, 1.0)
    z_hat = z_hat[:16, :16]
    y = _drawn_y(config, params, z_hat.astype(np.float32) * _UNIT, jax.random.key(0))
    return Sample(z_hat, np.asarray(y), 1.0)


def context_bias(params: dict, low: float, high: float) -> np.ndarray:
    """The context's bias [CONTEXT_STEPS,2M] at every eighth step, clipped to the trained range."""
    codes = QSTEP_CODE_MIN + 8 * np.arange(hyper_synthesis.CONTEXT_STEPS)
    qstep = jnp.clip(jnp.exp2(codes / CODES_PER_OCTAVE), low, high)
    return np.asarray(context.step_bias(params["context"], qstep[:, None].astype(jnp.float32)))


def _qsteps(low: float, high: float) -> jax.Array:
    """Every step of the grid, clipped to the trained range: float32 [codes]."""
    codes = range(QSTEP_CODE_MIN, QSTEP_CODE_MAX + 1)
    return jnp.clip(jnp.array([qstep_of(c) for c in codes], jnp.float32), low, high)


def freeze(
    config: Config, params: dict, *, qstep_range: tuple[float, float], **metadata: Any
) -> FrozenModel:
    """A frozen model from trained parameters.

    qstep_range: the steps that training saw; outside, what depends on the step stays at the nearest
    one. metadata: anything JSON, kept in the header (recipe, data statement, measured curve).
    """
    config, params = hyperprior.with_scales(config, params)
    params = as_stored(params)
    medians = np.rint(np.asarray(entropy_models.medians(params["bottleneck"])) / _UNIT).astype(
        np.int32
    )
    if not np.abs(medians).max() <= hyper_synthesis.Z_MAX:
        raise ValueError(
            f"the medians of z must be within {hyper_synthesis.Z_MAX * _UNIT:.0f}, one is "
            f"{np.abs(medians).max() * _UNIT:.3g}: did training diverge?"
        )
    z_steps, z_step_index = z_step_grid(params, *qstep_range)
    z_tables = [
        bottleneck_tables(params["bottleneck"], medians * _UNIT, float(s * _UNIT)) for s in z_steps
    ]
    z_hat = drawn_latents(z_tables[len(z_steps) // 2], medians, z_steps[len(z_steps) // 2])
    units = fitted_units(config, params, [_drawn_sample(config, params, z_hat)], qstep_range)
    described = metadata | {"qstep_range": list(qstep_range)}
    model = FrozenModel(
        params=params,
        units=units,
        network=fixed_point.quantise(config, params, units),
        medians=medians,
        offsets=offset_table(params, *qstep_range),
        z_steps=z_steps,
        z_step_index=z_step_index,
        z_tables=tables.concatenate(z_tables),
        y_tables=gaussian_tables(),
        config=config,
        model_id="00000000",
        header=json.dumps(described),
    )
    return seal(model)


def freeze_run(run: Any, notes: dict[str, str]) -> FrozenModel:
    """Freezes a run of `jvrc train`; its recipe and the steps done go into the header."""
    recipe = asdict(run.recipe)
    return freeze(
        run.config,
        run.params,
        qstep_range=run.recipe.qstep_range(),
        recipe=recipe | {"steps_done": run.step},
        **notes,
    )
