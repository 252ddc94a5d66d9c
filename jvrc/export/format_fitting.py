"""Fit the fixed-point format of a model to the range of its activations.

The range is measured with the float networks, which know no bounds, on latents of images or on
latents drawn from the model's own tables.
"""

from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jvrc.coding import tables
from jvrc.integer.bounds import HIDDEN_LAYERS, Y
from jvrc.integer.context import BIAS_COUNT
from jvrc.integer.fixed_point import choose_format
from jvrc.integer.formats import FixedPointFormat
from jvrc.integer.hyper_synthesis import Z_EXPONENT, Z_MAX
from jvrc.model import context, transforms
from jvrc.model.config import Config
from jvrc.qstep import CODES_PER_OCTAVE, QSTEP_CODE_MIN

WIDENING = 1.2  # of the measured range, about its middle, where layers saturate at its ends
_DRAWN = 64  # height and width of drawn z^
_DRAWN_CONTEXT = 16  # likewise, in models with a context
# Drawn y stay within these: outliers, which saturate, must not make all units coarse.
_SIGMA_MAX, _MU_MAX = 64.0, 256.0


class Sample(NamedTuple):
    """Latents of one image, to measure activations on."""

    z_hat: np.ndarray  # int [h,w,N], in the unit of z^
    y: np.ndarray | None  # float32 [4h,4w,M], in place of y^; None in models without a context
    qstep: float


def fit_format(
    config: Config,
    params: dict,
    samples: Iterable[Sample],
    qstep_range: tuple[float, float],
    *,
    saturate: bool = False,
    z_exponent: int = Z_EXPONENT,
) -> FixedPointFormat:
    """Return the finest format with which no activation saturates on the samples.

    samples: of any sizes. qstep_range: as in `freezing.freeze`. saturate: whether the hidden layers
    of h_s shall saturate channel by channel just beyond the samples' range (WIDENING), so that
    images unlike the samples cannot make h_s give absurd scales and means. z_exponent: of the unit
    of z^.
    """
    ends = _measure(config, params, samples, 2.0**z_exponent)
    ranges = {name: np.abs(found).max(0) for name, found in ends.items()}
    bias = context_bias(params, *qstep_range) if config.has_context else None
    intervals = {name: widened(ends[name]) for name in HIDDEN_LAYERS} if saturate else None
    return choose_format(config, params, ranges, bias, intervals, z_exponent)


def widened(interval: np.ndarray) -> np.ndarray:
    """Return intervals (low, high) [2,C] of WIDENING times the length about the same middle."""
    low, high = interval.astype(np.float64)
    middle, reach = (low + high) / 2, WIDENING * (high - low) / 2
    return np.stack([middle - reach, middle + reach])


def _measure(
    config: Config, params: dict, samples: Iterable[Sample], unit: float
) -> dict[str, np.ndarray]:
    """Return the lowest and highest activations of all samples, [2,C], by name of the layer."""
    found = [
        _activation_ranges(
            config, params, s.z_hat.astype(np.float32) * np.float32(unit), s.y, s.qstep
        )
        for s in samples
    ]
    together = {name: np.stack([f[name] for f in found]) for name in found[0]}
    return {name: np.stack([a[:, 0].min(0), a[:, 1].max(0)]) for name, a in together.items()}


@partial(jax.jit, static_argnums=0)
def _activation_ranges(
    config: Config, params: dict, z_hat: jax.Array, y: jax.Array | None, qstep: jax.Array
) -> dict[str, jax.Array]:
    """Return the lowest and highest activations [2,C] by name of the layer, and of Y."""
    with jax.default_matmul_precision("highest"):  # no TF32 products
        deconv0, deconv1, psi = transforms.hyper_layers(config, params["h_s"], z_hat[None])
        outputs = {"h_s/deconv0": deconv0, "h_s/deconv1": deconv1}
        if config.has_context:
            features = context.features(config, params["context"], y[None], qstep)
            hidden = context.hidden_layers(params["entropy_parameters"], psi, features)
            outputs |= {Y: y[None], "h_s/conv2": psi, "context/conv": features}
            outputs |= {f"entropy_parameters/conv{i}": hidden[i] for i in (0, 1)}
    axes = (0, 1, 2)
    return {name: jnp.stack([a.min(axes), a.max(axes)]) for name, a in outputs.items()}


def context_bias(params: dict, low: float, high: float) -> np.ndarray:
    """Return the context's bias [BIAS_COUNT,2M] at every eighth qstep code.

    low, high: the range of Delta in training, to which Delta is clipped.
    """
    codes = QSTEP_CODE_MIN + 8 * np.arange(BIAS_COUNT)
    qstep = jnp.clip(jnp.exp2(codes / CODES_PER_OCTAVE), low, high)
    return np.asarray(context.step_bias(params["context"], qstep[:, None].astype(jnp.float32)))


def drawn_sample(
    config: Config,
    params: dict,
    z_tables: tables.CdfTables,
    medians: np.ndarray,
    z_step: int,
    *,
    unit: float = 2.0**Z_EXPONENT,
) -> Sample:
    """Return latents drawn at random from the model itself; the same each time.

    z_tables, medians, z_step: as `drawn_z` takes them, in units of `unit`.
    """
    z_hat = drawn_z(z_tables, medians, z_step)
    if not config.has_context:
        return Sample(z_hat, None, 1.0)
    z_hat = z_hat[:_DRAWN_CONTEXT, :_DRAWN_CONTEXT]
    y = _drawn_y(config, params, z_hat.astype(np.float32) * np.float32(unit), jax.random.key(0))
    return Sample(z_hat, np.asarray(y), 1.0)


def drawn_z(z_tables: tables.CdfTables, medians: np.ndarray, z_step: int) -> np.ndarray:
    """Return z^ int32 [64,64,N] drawn independently from the tables of z.

    z_tables: one for each channel. medians: int [N] and z_step, in the unit of z^.
    """
    rng, values = np.random.default_rng(0), []
    for channel, low in enumerate(z_tables.low):
        cumulative = np.cumsum(z_tables.select(channel, 1).freq, dtype=np.int64)
        drawn = rng.integers(tables.TOTAL, size=_DRAWN * _DRAWN)
        values.append(low + np.searchsorted(cumulative, drawn, "right"))
    z_hat = np.stack(values, axis=-1).reshape(_DRAWN, _DRAWN, -1) * z_step + medians
    return np.clip(z_hat, -Z_MAX, Z_MAX).astype(np.int32)


@partial(jax.jit, static_argnums=0)
def _drawn_y(config: Config, params: dict, z_hat: jax.Array, key: jax.Array) -> jax.Array:
    """Return y drawn from N(mu, sigma^2) as h_s alone predicts them: float32 [4h,4w,M]."""
    psi = transforms.hyper_layers(config, params["h_s"], z_hat[None])[-1]
    no_context = jnp.zeros_like(psi)
    sigma, mu = context.entropy_parameters(config, params["entropy_parameters"], psi, no_context)
    sigma, mu = jnp.minimum(sigma, _SIGMA_MAX), jnp.clip(mu, -_MU_MAX, _MU_MAX)
    return (mu + sigma * jax.random.normal(key, mu.shape))[0]
