"""From a trained h_s to the integers of `exact`: units, shifts and weights.

A weights file holds the float h_s and `Units`; the integers follow from both by one product, one
rounding each in IEEE double precision, so that every machine derives the same.

May import: exact, transforms, config.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jvrc.model import exact, transforms
from jvrc.model.config import Config

_LAYERS = ("deconv0", "deconv1", "conv2")
_LOG_UNITS = 184.6649652337873  # exact.SCALES_PER_OCTAVE / log(2): h_s gives natural logarithms
_SIZES = (5, 5, 3)  # of the kernels
_WEIGHT_MAX = 2**15 - 1
_EXPONENT_MAX = 100  # of units: far from the ends of float32


class Units(NamedTuple):
    """How a float h_s is rounded: exponents of the units, and shifts after the sums."""

    exponents: tuple[np.ndarray, np.ndarray, np.ndarray]  # int8 [C] of each layer's outputs
    shifts: tuple[np.ndarray, np.ndarray, np.ndarray]  # int8 [C]


def quantise(config: Config, h_s: dict, units: Units) -> exact.Network:
    """The integer network of a float h_s, exactly and on any machine the same.

    h_s: kernels whose values float16 holds, biases float32; hyper_scale must be 1.

    Raises:
      ValueError: a sum could exceed SUM_MAX, so that the result could depend on the machine, or
        the arrays are not those of a model with this config.
    """
    layers, widths = [], transforms.hyper_widths(config)
    for i, size in enumerate(_SIZES):
        shape = (size, size, widths[i], widths[i + 1])
        _check_arrays(h_s[_LAYERS[i]], (units.exponents[i], units.shifts[i]), i, shape)
        shift = units.shifts[i].astype(np.int32)
        kernel, bias = _integers(*_scaled(config, h_s, units.exponents, i), shift)
        if shift.min() < 0 or not _fits(kernel, bias, shift, i).all():
            raise ValueError(
                f"the integers of h_s/{_LAYERS[i]} must keep every sum within {exact.SUM_MAX}, and "
                f"weights within {_WEIGHT_MAX}, and do not: freeze the model anew"
            )
        layers.append(exact.Layer(kernel.astype(np.int16), bias.astype(np.int32), shift))
    mu_exponent = units.exponents[2][config.M :].astype(np.int32)
    return exact.Network(tuple(layers), mu_exponent)


def choose_units(config: Config, h_s: dict, ranges: tuple[np.ndarray, np.ndarray]) -> Units:
    """Units for activations of up to `ranges` [C] after the first and second layer.

    Each channel's unit is the finest in which its range does not saturate and its sums stay within
    SUM_MAX with a shift; each shift is the largest possible. h_s as in `quantise`.

    Raises:
      ValueError: h_s is not finite or too large for that.
    """
    sigma = np.full(config.M, 0 if config.log_scale else exact.SIGMA_EXPONENT)
    mu = np.full(config.M if config.predicts_mean else 0, exact.MU_EXPONENT)
    exponents = [_exponent(r / exact.ACTIVATION_MAX) for r in ranges]
    exponents.append(np.concatenate([sigma, mu]))
    shifts = []
    for i, name in enumerate(_LAYERS):
        shift = _largest_shift(*_scaled(config, h_s, exponents, i), i)
        # a channel that is silent, or a large mu, gets a coarser unit; that of sigma is fixed
        too_fine = np.minimum(shift, 0)
        if i == 2:
            too_fine[: config.M] = 0
        exponents[i] = exponents[i] - too_fine
        shift = shift - too_fine
        if shift.min() < 0 or np.abs(exponents[i]).max() > _EXPONENT_MAX:
            largest = np.abs(h_s[name]["kernel"]).max()
            raise ValueError(
                f"h_s/{name} must have weights whose sums fit 24 bits; the largest weight is "
                f"{largest:.3g}: did training diverge?"
            )
        shifts.append(shift)
    return Units(*(tuple(a.astype(np.int8) for a in part) for part in (exponents, shifts)))


def _check_arrays(layer: dict, units: tuple, i: int, shape: tuple[int, ...]) -> None:
    found = [np.shape(layer["kernel"]), np.shape(layer["bias"]), *(u.shape for u in units)]
    if found != [shape, *[shape[3:]] * 3] or any(u.dtype != np.int8 for u in units):
        raise ValueError(f"h_s/{_LAYERS[i]} or its units: wrong shape or type, shapes {found}")
    if np.abs(units[0].astype(int)).max() > _EXPONENT_MAX:
        raise ValueError(f"units/exponents/{i} must be within {_EXPONENT_MAX}")


def _exponent(unit: np.ndarray) -> np.ndarray:
    """int [C]: exponents of the powers of two next above `unit` [C]."""
    return np.clip(np.ceil(np.log2(np.maximum(unit, 2.0**-40))), -40, 40).astype(int)


def _scaled(config: Config, h_s: dict, exponents: Sequence, i: int) -> tuple:
    """(kernel, bias) of layer i in units of its inputs and outputs, float64.

    Exact, but that a logarithm of sigma takes one product, rounded as IEEE 754 says.
    """
    entering = np.full(config.N, exact.Z_EXPONENT) if i == 0 else exponents[i - 1]
    leaving = exponents[i].astype(np.int32)
    layer = h_s[_LAYERS[i]]
    kernel, bias = (np.asarray(layer[k], np.float64) for k in ("kernel", "bias"))
    kernel = np.ldexp(kernel, entering.astype(np.int32)[:, None] - leaving)
    bias = np.ldexp(bias, -leaving)
    if i == 2 and config.log_scale:
        factor = np.where(np.arange(len(bias)) < config.M, _LOG_UNITS, 1.0)
        kernel, bias = kernel * factor, bias * factor
    return kernel, bias


def _integers(kernel: np.ndarray, bias: np.ndarray, shift: np.ndarray | int) -> tuple:
    """(kernel, bias) of integers, ties to even."""
    return np.rint(np.ldexp(kernel, shift)), np.rint(np.ldexp(bias, shift))


def _fits(kernel: np.ndarray, bias: np.ndarray, shift: np.ndarray | int, i: int) -> np.ndarray:
    """bool [O]: layer i keeps partial sums within SUM_MAX and weights within int16."""
    size = np.abs(kernel)
    if i < 2:  # transposed: a pixel sees every other tap
        taps = [size[r::2, s::2].sum((0, 1, 2)) for r in (0, 1) for s in (0, 1)]
        total = np.max(taps, axis=0)
    else:
        total = size.sum((0, 1, 2))
    largest = total * (exact.ACTIVATION_MAX if i else exact.Z_MAX)
    sums = largest + np.abs(bias) + np.floor(np.ldexp(0.5, shift))
    return (sums <= exact.SUM_MAX) & (size.max((0, 1, 2)) <= _WEIGHT_MAX)


def _largest_shift(kernel: np.ndarray, bias: np.ndarray, i: int) -> np.ndarray:
    """int [O]: the largest shift in -60 … 20 for which layer i fits, -1000 if none does."""
    best = np.full(len(bias), -1000)
    for shift in range(20, -61, -1):
        best[(best < shift) & _fits(*_integers(kernel, bias, shift), shift, i)] = shift
        if best.min() >= shift:
            break
    return best
