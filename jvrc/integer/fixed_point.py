"""From a trained network to its integers, by way of a fixed-point format.

A weights file holds the float parameters and a `FixedPointFormat`. The integers follow from both by
one product and one rounding each, in IEEE double precision, so every machine derives the same.
"""

import numpy as np

from jvrc.integer import bounds
from jvrc.integer.bounds import LayerSpec, Y, Z, last_layer, layer_specs
from jvrc.integer.formats import (
    EXPONENT_MAX,
    UP_MAX,
    FixedPointFormat,
    LayerFormat,
    check_format,
    exponents_of,
    input_limits,
    sigma_exponent,
)
from jvrc.integer.hyper_synthesis import ACTIVATION_MAX, MU_EXPONENT, Z_EXPONENT
from jvrc.integer.network import (
    SUM_MAX,
    ContextNetwork,
    EntropyParameters,
    HyperSynthesis,
    Layer,
    Network,
)
from jvrc.model.config import Config

# SCALES_PER_OCTAVE / log(2), as a literal: the networks give natural logarithms of sigma
_LOG_FACTOR = 184.6649652337873
_CHANNELS = 32  # output channels that are rounded at a time, so that the arrays stay in the cache


def quantise(config: Config, params: dict, fixed_point_format: FixedPointFormat) -> Network:
    """Return the integer networks of float parameters, the same on any machine.

    params: kernels whose values float16 holds, biases float32; hyper_scale must be 1.

    Raises:
      ValueError: a sum could exceed SUM_MAX, so that the result could depend on the machine, or
        the arrays are not those of a model with this config.
    """
    check_format(config, fixed_point_format)
    layers = {
        spec.name: _integer_layer(config, spec, params, fixed_point_format)
        for spec in layer_specs(config)
    }
    mu_exponent = fixed_point_format.layers[last_layer(config)].exponent[config.M :]
    return Network(
        h_s=HyperSynthesis(*(layers[f"h_s/{name}"] for name in HyperSynthesis._fields)),
        context=_context_network(layers, fixed_point_format) if config.has_context else None,
        mu_exponent=mu_exponent.astype(np.int32),
    )


def choose_format(
    config: Config,
    params: dict,
    ranges: dict[str, np.ndarray],
    context_bias: np.ndarray | None = None,
    intervals: dict[str, np.ndarray] | None = None,
    z_exponent: int = Z_EXPONENT,
) -> FixedPointFormat:
    """Return the finest format whose sums stay exact and whose ranges of activations it holds.

    Each channel's unit is the finest in which its range does not saturate and its sums stay within
    SUM_MAX; each shift is the largest possible.

    params: as in `quantise`. ranges: largest magnitudes [C] of the outputs of each layer but the
    last, by its name, and in models with a context of y^, by the name Y. context_bias: float
    [BIAS_COUNT,2M], the context's bias at each eighth qstep code. intervals: float [2,C], the
    lowest and highest outputs of those hidden layers of h_s that shall saturate there, in place of
    their ranges. z_exponent: of the unit of z^.

    Raises:
      ValueError: params are not finite or too large.
    """
    intervals = intervals or {}
    ranges = ranges | {name: np.abs(ends).max(0) for name, ends in intervals.items()}
    exponents, layers = _finest_exponents(config, ranges, z_exponent), {}
    for spec in layer_specs(config):
        floats = _in_units(config, spec, params, exponents)
        shift = bounds.largest_shift(spec, input_limits(spec, layers), *floats)
        # a silent channel or a large mu gets a coarser unit; that of sigma is fixed
        coarser = np.maximum(-shift, 0)
        if spec.name == last_layer(config):
            coarser[: config.M] = 0
        exponent, shift = exponents[spec.name] + coarser, shift + coarser
        _check_chosen(spec, params, exponent, shift)
        exponents[spec.name] = exponent
        low_high = _integer_bounds(intervals.get(spec.name), exponent)
        layers[spec.name] = LayerFormat(exponent.astype(np.int8), shift.astype(np.int8), *low_high)
    z_unit = None if z_exponent == Z_EXPONENT else np.array([z_exponent], np.int8)
    if not config.has_context:
        return FixedPointFormat(layers, z_unit=z_unit)
    latent_shift = (exponents[Y] - MU_EXPONENT).astype(np.int8)
    return FixedPointFormat(layers, latent_shift, _rounded_bias(layers, context_bias), z_unit)


def _integer_bounds(
    interval: np.ndarray | None, exponent: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return an interval [2,C] in units of 2**exponent, rounded outwards: int16 [C] each."""
    if interval is None:
        return None, None
    low, high = np.ldexp(interval.astype(np.float64), -exponent)
    ends = np.clip([np.floor(low), np.ceil(high)], -ACTIVATION_MAX, ACTIVATION_MAX)
    return tuple(ends.astype(np.int16))


def _finest_exponents(
    config: Config, ranges: dict[str, np.ndarray], z_exponent: int
) -> dict[str, np.ndarray]:
    """Return the exponents of `exponents_of`, from the ranges of `choose_format` alone."""
    limits = {name: spec.input_max for spec in layer_specs(config) for name in spec.inputs}
    found = {name: _exponent(largest / limits[name]) for name, largest in ranges.items()}
    sigma = np.full(config.M, sigma_exponent(config))
    mu = np.full(config.M if config.predicts_mean else 0, MU_EXPONENT)
    found[last_layer(config)] = np.concatenate([sigma, mu])
    found[Z] = np.full(config.N, z_exponent)
    if config.has_context:
        found[Y] = np.clip(found[Y], MU_EXPONENT, MU_EXPONENT + UP_MAX)
    return found


def _exponent(unit: np.ndarray) -> np.ndarray:
    """Return int [C]: the exponents of the powers of two at or above `unit` [C]."""
    return np.clip(np.ceil(np.log2(np.maximum(unit, 2.0**-40))), -40, 40).astype(int)


def _in_units(
    config: Config,
    spec: LayerSpec,
    params: dict,
    exponents: dict[str, np.ndarray],
    channels: slice = slice(None),
) -> tuple[np.ndarray, np.ndarray]:
    """Return a layer's (kernel, bias) in units of its inputs and outputs: float64.

    Exact, but that a logarithm of sigma takes one product, rounded as IEEE 754 says. channels: of
    the outputs.
    """
    entering = np.concatenate([exponents[name] for name in spec.inputs]).astype(np.int32)
    leaving = exponents[spec.name][channels].astype(np.int32)
    layer = spec.parameters_in(params)
    kernel, bias = (np.asarray(layer[k])[..., channels] for k in ("kernel", "bias"))
    kernel, bias = kernel.astype(np.float64), bias.astype(np.float64)
    kernel = kernel * np.ldexp(1.0, entering[:, None] - leaving)  # exact, as ldexp(kernel) is
    bias = np.ldexp(bias, -leaving)
    if spec.name == last_layer(config) and config.log_scale:
        factor = np.where(np.arange(spec.channels[1]) < config.M, _LOG_FACTOR, 1.0)[channels]
        kernel, bias = kernel * factor, bias * factor
    return kernel, bias


def _integer_layer(
    config: Config, spec: LayerSpec, params: dict, fixed_point_format: FixedPointFormat
) -> Layer:
    _check_parameters(spec, params)
    _, shift, *low_high = (
        a if a is None else a.astype(np.int32) for a in fixed_point_format.layers[spec.name]
    )
    slices = [slice(i, i + _CHANNELS) for i in range(0, len(shift), _CHANNELS)]
    parts = [_integer_channels(config, spec, params, fixed_point_format, s) for s in slices]
    kernel, bias = (np.concatenate(part, axis=-1) for part in zip(*parts, strict=True))
    return Layer(kernel, bias, shift, *low_high)


def _integer_channels(
    config: Config,
    spec: LayerSpec,
    params: dict,
    fixed_point_format: FixedPointFormat,
    channels: slice,
) -> tuple[np.ndarray, np.ndarray]:
    """Return (kernel int16, bias int32) of some of a layer's output channels."""
    layers, exponents = fixed_point_format.layers, exponents_of(config, fixed_point_format)
    shift = layers[spec.name].shift[channels].astype(np.int32)
    floats = _in_units(config, spec, params, exponents, channels)
    kernel, bias = bounds.to_integers(*floats, shift)
    if Y in spec.inputs:
        bias = fixed_point_format.context_bias[:, channels].astype(np.float64)
    limits = input_limits(spec, layers)
    if shift.min() < 0 or not bounds.fits(spec, limits, kernel, bias, shift).all():
        raise ValueError(
            f"the integers of {spec.name} must keep every sum within {SUM_MAX}, and weights within "
            f"{bounds.WEIGHT_MAX}, and do not: freeze the model anew"
        )
    return kernel.astype(np.int16), bias.astype(np.int32)


def _context_network(
    layers: dict[str, Layer], fixed_point_format: FixedPointFormat
) -> ContextNetwork:
    names = (f"entropy_parameters/{name}" for name in EntropyParameters._fields)
    return ContextNetwork(
        conv=layers["context/conv"],
        entropy_parameters=EntropyParameters(*(layers[name] for name in names)),
        latent_shift=fixed_point_format.latent_shift.astype(np.int32),
    )


def _rounded_bias(layers: dict[str, LayerFormat], bias: np.ndarray) -> np.ndarray:
    """Return the context's bias in the unit of its sums: int32."""
    exponent, shift = (a.astype(np.int32) for a in layers["context/conv"][:2])
    integers = np.rint(np.ldexp(np.ldexp(np.asarray(bias, np.float64), -exponent), shift))
    return np.clip(integers, -bounds.BIAS_MAX, bounds.BIAS_MAX).astype(np.int32)


def _check_chosen(spec: LayerSpec, params: dict, exponent: np.ndarray, shift: np.ndarray) -> None:
    if shift.min() < 0 or np.abs(exponent).max() > EXPONENT_MAX:
        largest = np.abs(spec.parameters_in(params)["kernel"]).max()
        raise ValueError(
            f"{spec.name} must have weights whose sums fit 24 bits; the largest weight is "
            f"{largest:.3g}: did training diverge?"
        )


def _check_parameters(spec: LayerSpec, params: dict) -> None:
    kernel, bias = (np.shape(spec.parameters_in(params)[k]) for k in ("kernel", "bias"))
    taps = kernel[:-2]
    odd_square = len(taps) == 2 and taps[0] == taps[1] and taps[0] % 2 == 1
    right = odd_square if spec.taps is None else taps == spec.taps
    if not right or kernel[-2:] != spec.channels or bias != spec.channels[1:]:
        raise ValueError(f"{spec.name}: wrong shape of kernel or bias, {kernel} and {bias}")
