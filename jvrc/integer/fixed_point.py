"""From trained networks to the integers of `exact`: units, shifts and weights.

A weights file holds the float networks and `Units`; the integers follow from both by one product,
one rounding each in IEEE double precision, so that every machine derives the same.
"""

from typing import NamedTuple

import numpy as np

from jvrc.integer import hyper_synthesis
from jvrc.model import context, transforms
from jvrc.model.config import Config

_LOG_UNITS = (
    184.6649652337873  # hyper_synthesis.SCALES_PER_OCTAVE / log(2): the nets give natural logs
)
_WEIGHT_MAX = 2**15 - 1
_EXPONENT_MAX = 100  # of units: far from the ends of float32
_UP_MAX = 20  # of shifts between the units of y^
_BIAS_MAX = 2**28  # in layers whose sums are formed in parts
_ADDED_MAX = 2**30  # what these may come to, without the bias


class Units(NamedTuple):
    """How the float networks are rounded, in the order of `layers`.

    exponents: of the units of each layer's outputs. shifts: after the sums. Both int8 [C].
    latent: int8 [M], the shift from y^ in 1/64 to what the context sees; none without context.
    bias: int32 [CONTEXT_STEPS,2M], the context's at each step, in units of its sums; none without
      context. Kept, not derived: it takes a power of Delta, which machines may round differently.
    """

    exponents: tuple[np.ndarray, ...]
    shifts: tuple[np.ndarray, ...]
    latent: tuple[np.ndarray, ...] = ()
    bias: tuple[np.ndarray, ...] = ()


class _Spec(NamedTuple):
    """One layer: where its parameters are, and how its sums are formed."""

    part: str
    name: str
    shape: tuple[int, ...]  # of the kernel
    limit: int  # the inputs' largest magnitude
    # of each kind of output what of the kernel its products take; several are added in int32
    products: tuple[tuple[tuple[slice, ...], ...], ...]
    added: bool  # so is the bias, if this is one of the layers that may have several

    @property
    def label(self) -> str:
        return f"{self.part}/{self.name}"


_ALL = slice(None)
_ODD_AND_EVEN = tuple((slice(r, None, 2), slice(s, None, 2)) for r in (0, 1) for s in (0, 1))


def layers(config: Config) -> tuple[_Spec, ...]:
    """The layers of h_s, and behind them those of the context model."""
    w = transforms.hyper_widths(config)
    runs = [slice(i, i + hyper_synthesis.Z_RUN) for i in range(0, w[0], hyper_synthesis.Z_RUN)]
    in_runs = tuple(tuple((*taps, run) for run in runs) for taps in _ODD_AND_EVEN)
    transposed, whole = tuple((taps,) for taps in _ODD_AND_EVEN), (((_ALL,),),)
    found = (
        _Spec("h_s", "deconv0", (5, 5, w[0], w[1]), hyper_synthesis.Z_MAX, in_runs, True),
        _Spec(
            "h_s", "deconv1", (5, 5, w[1], w[2]), hyper_synthesis.ACTIVATION_MAX, transposed, False
        ),
        _Spec("h_s", "conv2", (3, 3, w[2], w[3]), hyper_synthesis.ACTIVATION_MAX, whole, False),
    )
    if not config.has_context:
        return found
    m, limit = config.M, hyper_synthesis.FEATURE_MAX
    rows = (tuple((taps,) for taps in context.ROWS),)
    halves = (tuple((_ALL, _ALL, half) for half in (slice(0, 2 * m), slice(2 * m, 4 * m))),)
    v, part = context.widths(config), "entropy_parameters"
    return (
        *found,
        _Spec("context", "conv", (12, m, 2 * m), limit, rows, True),
        _Spec(part, "conv0", (1, 1, v[0], v[1]), limit, halves, True),
        _Spec(part, "conv1", (1, 1, v[1], v[2]), limit, whole, False),
        _Spec(part, "conv2", (1, 1, v[2], v[3]), limit, whole, False),
    )


def quantise(config: Config, params: dict, units: Units) -> hyper_synthesis.Network:
    """The integer network of float parameters, exactly and on any machine the same.

    params: kernels whose values float16 holds, biases float32; hyper_scale must be 1.

    Raises:
      ValueError: a sum could exceed SUM_MAX, so that the result could depend on the machine, or
        the arrays are not those of a model with this config.
    """
    _check_units(config, units)
    latent = units.latent[0] if config.has_context else np.zeros(0)
    found = []
    for i, spec in enumerate(layers(config)):
        _check_arrays(spec, params[spec.part][spec.name], units.exponents[i], units.shifts[i])
        shift = units.shifts[i].astype(np.int32)
        kernel, bias = _integers(*_scaled(config, params, units, i), shift)
        if spec.part == "context":
            bias = _checked_bias(units, spec)
        if shift.min() < 0 or not _fits(spec, kernel, bias, shift).all():
            raise ValueError(
                f"the integers of {spec.label} must keep every sum within "
                f"{hyper_synthesis.SUM_MAX}, and weights within {_WEIGHT_MAX}, and do not: "
                "freeze the model anew"
            )
        found.append(hyper_synthesis.Layer(kernel.astype(np.int16), bias.astype(np.int32), shift))
    sigma_exponent = units.exponents[-1][: config.M]
    if not np.all(sigma_exponent == _sigma_exponent(config)):
        raise ValueError(f"the exponents of sigma must be {_sigma_exponent(config)}")
    mu_exponent = units.exponents[-1][config.M :].astype(np.int32)
    return hyper_synthesis.Network(tuple(found), mu_exponent, latent.astype(np.int32))


def choose_units(
    config: Config, params: dict, ranges: list[np.ndarray], latents: np.ndarray | None = None
) -> Units:
    """Units for activations of up to `ranges` [C] behind each layer but the last.

    Each channel's unit is the finest in which its range does not saturate and its sums stay within
    SUM_MAX with a shift; each shift is the largest possible. params as in `quantise`. latents: the
    range of y^ [M] for models with a context.

    Raises:
      ValueError: params are not finite or too large for that.
    """
    sigma = np.full(config.M, _sigma_exponent(config))
    mu = np.full(config.M if config.predicts_mean else 0, hyper_synthesis.MU_EXPONENT)
    specs = layers(config)
    limits = [spec.limit for spec in specs[1:]]
    exponents = [_exponent(r / limit) for r, limit in zip(ranges, limits, strict=True)]
    exponents.append(np.concatenate([sigma, mu]))
    latent: tuple[np.ndarray, ...] = ()
    if config.has_context:
        latent = (
            np.clip(
                _exponent(latents / hyper_synthesis.FEATURE_MAX) - hyper_synthesis.MU_EXPONENT,
                0,
                20,
            ),
        )
    shifts = []
    for i, spec in enumerate(specs):
        units = Units(tuple(exponents), (), latent)
        shift = _largest_shift(spec, *_scaled(config, params, units, i))
        # a channel that is silent, or a large mu, gets a coarser unit; that of sigma is fixed
        too_fine = np.minimum(shift, 0)
        if i == len(specs) - 1:
            too_fine[: config.M] = 0
        exponents[i] = exponents[i] - too_fine
        shift = shift - too_fine
        if shift.min() < 0 or np.abs(exponents[i]).max() > _EXPONENT_MAX:
            largest = np.abs(params[spec.part][spec.name]["kernel"]).max()
            raise ValueError(
                f"{spec.label} must have weights whose sums fit 24 bits; the largest weight is "
                f"{largest:.3g}: did training diverge?"
            )
        shifts.append(shift)
    parts = (exponents, shifts, latent)
    return Units(*(tuple(a.astype(np.int8) for a in part) for part in parts))


def with_bias(units: Units, bias: np.ndarray) -> Units:
    """Units with the context's bias at each step: float [CONTEXT_STEPS,2M]."""
    scaled = np.ldexp(np.asarray(bias, np.float64), -units.exponents[3].astype(np.int32))
    integers = np.rint(np.ldexp(scaled, units.shifts[3].astype(np.int32)))
    return units._replace(bias=(np.clip(integers, -_BIAS_MAX, _BIAS_MAX).astype(np.int32),))


def _check_units(config: Config, units: Units) -> None:
    """ValueError unless there are as many as the model has layers, and shifts a loop can take."""
    count = len(layers(config))
    if not len(units.exponents) == len(units.shifts) == count:
        raise ValueError(f"units must be those of {count} layers, found {len(units.exponents)}")
    if not config.has_context:
        return
    kinds = [(v.shape, v.dtype) for v in units.latent]
    if kinds != [((config.M,), np.int8)] or not _within(units.latent[0], 0, _UP_MAX):
        raise ValueError(f"units/latent/0 must be {config.M} int8 in 0 … {_UP_MAX}")
    lowest, highest = hyper_synthesis.MU_EXPONENT, hyper_synthesis.MU_EXPONENT + _UP_MAX
    if not _within(units.exponents[-1][config.M :], lowest, highest):
        raise ValueError(f"the exponents of mu must be in {lowest} … {highest}")


def _sigma_exponent(config: Config) -> int:
    return 0 if config.log_scale else hyper_synthesis.SIGMA_EXPONENT


def _within(values: np.ndarray, low: int, high: int) -> bool:
    return bool(np.all((values >= low) & (values <= high)))


def _checked_bias(units: Units, spec: _Spec) -> np.ndarray:
    shape = (hyper_synthesis.CONTEXT_STEPS, spec.shape[-1])
    if [(b.shape, b.dtype) for b in units.bias] != [(shape, np.int32)]:
        raise ValueError(f"units/bias/0 must be int32 {list(shape)}")
    return units.bias[0].astype(np.float64)


def _check_arrays(spec: _Spec, layer: dict, exponents: np.ndarray, shifts: np.ndarray) -> None:
    units = (exponents, shifts)
    found = [np.shape(layer["kernel"]), np.shape(layer["bias"]), *(u.shape for u in units)]
    if found != [spec.shape, *[spec.shape[-1:]] * 3] or any(u.dtype != np.int8 for u in units):
        raise ValueError(f"{spec.label} or its units: wrong shape or type, shapes {found}")
    if np.abs(exponents.astype(int)).max() > _EXPONENT_MAX:
        raise ValueError(f"the exponents of {spec.label} must be within {_EXPONENT_MAX}")


def _exponent(unit: np.ndarray) -> np.ndarray:
    """int [C]: exponents of the powers of two next above `unit` [C]."""
    return np.clip(np.ceil(np.log2(np.maximum(unit, 2.0**-40))), -40, 40).astype(int)


def _entering(config: Config, units: Units, i: int) -> np.ndarray:
    """int [I]: exponents of the units of layer i's inputs."""
    if i == 0:
        return np.full(config.N, hyper_synthesis.Z_EXPONENT)
    if i == 3:
        return units.latent[0].astype(int) + hyper_synthesis.MU_EXPONENT
    if i == 4:
        return np.concatenate(units.exponents[2:4])
    return units.exponents[i - 1]


def _scaled(config: Config, params: dict, units: Units, i: int) -> tuple:
    """(kernel, bias) of layer i in units of its inputs and outputs, float64.

    Exact, but that a logarithm of sigma takes one product, rounded as IEEE 754 says.
    """
    spec = layers(config)[i]
    entering = _entering(config, units, i).astype(np.int32)
    leaving = units.exponents[i].astype(np.int32)
    layer = params[spec.part][spec.name]
    kernel, bias = (np.asarray(layer[k], np.float64) for k in ("kernel", "bias"))
    kernel = np.ldexp(kernel, entering[:, None] - leaving)
    bias = np.ldexp(bias, -leaving)
    if i == len(layers(config)) - 1 and config.log_scale:
        factor = np.where(np.arange(len(bias)) < config.M, _LOG_UNITS, 1.0)
        kernel, bias = kernel * factor, bias * factor
    return kernel, bias


def _integers(kernel: np.ndarray, bias: np.ndarray, shift: np.ndarray | int) -> tuple:
    """(kernel, bias) of integers, ties to even."""
    return np.rint(np.ldexp(kernel, shift)), np.rint(np.ldexp(bias, shift))


def _fits(spec: _Spec, kernel: np.ndarray, bias: np.ndarray, shift: np.ndarray | int) -> np.ndarray:
    """bool [O]: the layer keeps partial sums within SUM_MAX and weights within int16."""
    size = np.abs(kernel)
    sums = [[_over_inputs(size[part]) for part in parts] for parts in spec.products]
    largest = np.max([np.max(parts, axis=0) for parts in sums], axis=0) * spec.limit
    together = np.max([np.sum(parts, axis=0) for parts in sums], axis=0) * spec.limit
    added = np.atleast_2d(np.abs(bias) + np.floor(np.ldexp(0.5, shift)))
    if spec.added:
        fits = (largest <= hyper_synthesis.SUM_MAX) & (together <= _ADDED_MAX)
        fits &= (added <= _BIAS_MAX + hyper_synthesis.SUM_MAX).all(0)
    else:
        fits = (largest + added <= hyper_synthesis.SUM_MAX).all(0)
    return fits & (size.reshape(-1, size.shape[-1]).max(0) <= _WEIGHT_MAX)


def _over_inputs(part: np.ndarray) -> np.ndarray:
    """Sums over all but the outputs: [O]."""
    return part.sum(tuple(range(part.ndim - 1)))


def _largest_shift(spec: _Spec, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """int [O]: the largest shift in -60 … 20 for which the layer fits, -1000 if none does."""
    best = np.full(len(bias), -1000)
    for shift in range(20, -61, -1):
        best[(best < shift) & _fits(spec, *_integers(kernel, bias, shift), shift)] = shift
        if best.min() >= shift:
            break
    return best
