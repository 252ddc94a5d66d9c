"""Fixed-point formats: how the float networks of a model are rounded to integers.

The rounding itself, and the choice of a format, are in jvrc.integer.fixed_point. Layers have the
names of jvrc.integer.bounds: "h_s/deconv0", "context/conv" and so on.
"""

from typing import NamedTuple

import numpy as np

from jvrc.integer.bounds import HIDDEN_LAYERS, LayerSpec, Y, Z, last_layer, layer_specs
from jvrc.integer.context import BIAS_COUNT
from jvrc.integer.hyper_synthesis import ACTIVATION_MAX, MU_EXPONENT, SIGMA_EXPONENT, Z_EXPONENT
from jvrc.model.config import Config

EXPONENT_MAX = 100  # of units, to stay far from the ends of float32
UP_MAX = 20  # of the shifts between the units of y^


class LayerFormat(NamedTuple):
    """The format of one layer's outputs, for each of its channels.

    low, high: where a hidden layer of h_s saturates; None: at -ACTIVATION_MAX and ACTIVATION_MAX.
    """

    exponent: np.ndarray  # int8 [O]: outputs are integers times 2**exponent
    shift: np.ndarray  # int8 [O]: sums are integers times 2**(exponent - shift)
    low: np.ndarray | None = None  # int16 [O], times 2**exponent
    high: np.ndarray | None = None


class FixedPointFormat(NamedTuple):
    """The format of all layers, and what else turns float networks into integer ones.

    layers: by name. latent_shift: int8 [M], from y^ in 1/64 to the input of the context; None
      without a context.
    context_bias: int32 [BIAS_COUNT,2M], the context's bias at each eighth qstep code, in the unit
      of its sums; None without a context. It is stored and not derived, because it takes a power
      of Delta, which machines may round differently.
    z_unit: int8 [1], z^ is in integers times 2**z_unit; None: Z_EXPONENT.
    """

    layers: dict[str, LayerFormat]
    latent_shift: np.ndarray | None = None
    context_bias: np.ndarray | None = None
    z_unit: np.ndarray | None = None

    @property
    def z_exponent(self) -> int:
        """The exponent of the unit of z^, of its medians and of its quantisation steps."""
        return Z_EXPONENT if self.z_unit is None else int(self.z_unit[0])

    @property
    def saturates(self) -> bool:
        """True if hidden layers of h_s saturate at bounds of their own for each channel."""
        return any(layer.low is not None for layer in self.layers.values())


def exponents_of(config: Config, fixed_point_format: FixedPointFormat) -> dict[str, np.ndarray]:
    """Return the exponents of the units of Z, Y and of each layer's outputs: int [C]."""
    found = {k: v.exponent.astype(int) for k, v in fixed_point_format.layers.items()}
    found[Z] = np.full(config.N, fixed_point_format.z_exponent)
    if config.has_context:
        found[Y] = fixed_point_format.latent_shift.astype(int) + MU_EXPONENT
    return found


def input_limits(spec: LayerSpec, layers: dict[str, LayerFormat]) -> np.ndarray:
    """Return the largest magnitudes of a layer's inputs: int [I]. layers: those before it."""
    # only a hidden layer of h_s has bounds, and it is the only input of the next layer
    before = layers.get(spec.inputs[0])
    if before is None or before.low is None:
        return np.full(spec.channels[0], spec.input_max)
    return np.maximum(np.abs(before.low), np.abs(before.high)).astype(int)


def sigma_exponent(config: Config) -> int:
    """Return the exponent of the unit in which the last layer gives sigma or its logarithm."""
    return 0 if config.log_scale else SIGMA_EXPONENT


def check_format(config: Config, fixed_point_format: FixedPointFormat) -> None:
    """Raise ValueError unless the format is one of this config's layers, in the right units."""
    known, found = [s.name for s in layer_specs(config)], sorted(fixed_point_format.layers)
    if found != sorted(known):
        raise ValueError(f"the format must have the layers {known}, found {found}")
    for spec in layer_specs(config):
        _check_layer(spec, fixed_point_format.layers[spec.name])
    last = fixed_point_format.layers[last_layer(config)].exponent
    if not np.all(last[: config.M] == sigma_exponent(config)):
        raise ValueError(f"the exponents of sigma must be {sigma_exponent(config)}")
    z_unit = fixed_point_format.z_unit
    if z_unit is not None and not (_is_array(z_unit, (1,), np.int8) and _within(z_unit, -8, 8)):
        raise ValueError("the exponent of z's unit must be int8 [1] in -8 ... 8")
    if config.has_context:
        _check_context(config, fixed_point_format)
        low, high = MU_EXPONENT, MU_EXPONENT + UP_MAX
        if not _within(last[config.M :], low, high):
            raise ValueError(f"the exponents of mu must be in {low} ... {high}")


def _check_layer(spec: LayerSpec, layer: LayerFormat) -> None:
    shape = spec.channels[1:]
    if not all(_is_array(a, shape, np.int8) for a in (layer.exponent, layer.shift)):
        raise ValueError(f"the format of {spec.name} must be two arrays int8 {list(shape)}")
    if not _within(layer.exponent, -EXPONENT_MAX, EXPONENT_MAX):
        raise ValueError(f"the exponents of {spec.name} must be within {EXPONENT_MAX}")
    if layer.low is not None or layer.high is not None:
        _check_bounds(spec, layer)


def _check_bounds(spec: LayerSpec, layer: LayerFormat) -> None:
    if spec.name not in HIDDEN_LAYERS:
        raise ValueError(f"only {' and '.join(HIDDEN_LAYERS)} may have bounds, not {spec.name}")
    shape = spec.channels[1:]
    if not all(_is_array(a, shape, np.int16) for a in (layer.low, layer.high)):
        raise ValueError(f"the bounds of {spec.name} must be two arrays int16 {list(shape)}")
    low, high = layer.low, layer.high
    if not np.all((low >= -ACTIVATION_MAX) & (low <= high) & (high <= ACTIVATION_MAX)):
        raise ValueError(f"the bounds of {spec.name} must be low <= high, within {ACTIVATION_MAX}")


def _check_context(config: Config, fixed_point_format: FixedPointFormat) -> None:
    shift, shape = fixed_point_format.latent_shift, (BIAS_COUNT, 2 * config.M)
    if not _is_array(shift, (config.M,), np.int8) or not _within(shift, 0, UP_MAX):
        raise ValueError(f"the latent shift must be int8 [{config.M}] in 0 ... {UP_MAX}")
    if not _is_array(fixed_point_format.context_bias, shape, np.int32):
        raise ValueError(f"the context's bias must be int32 {list(shape)}")


def _is_array(value: np.ndarray | None, shape: tuple[int, ...], kind: type) -> bool:
    return value is not None and value.shape == shape and value.dtype == kind


def _within(values: np.ndarray, low: int, high: int) -> bool:
    return bool(np.all((values >= low) & (values <= high)))
