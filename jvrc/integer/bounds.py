"""How the layers of the integer networks form their sums, and the bounds that keep these exact.

`layer_specs` lists the layers. A layer *fits* if no input can take a float32 sum beyond SUM_MAX or
an int32 sum beyond its range (jvrc/coding/FORMAT.md, ends of sections 5 and 6).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jvrc.integer.context import FEATURE_MAX
from jvrc.integer.hyper_synthesis import ACTIVATION_MAX, Z_MAX
from jvrc.integer.network import RUN_CHANNELS, SUM_MAX
from jvrc.model import context
from jvrc.model.config import Config

WEIGHT_MAX = 2**15 - 1
BIAS_MAX = 2**28  # of a bias that is added in int32
_INT32_SUM_MAX = 2**30  # of sums that are added in int32, without their bias
_SHIFTS = range(20, -61, -1)  # tried by `largest_shift`

Z, Y = "z", "y"  # the inputs of layers that are not the output of another layer
HIDDEN_LAYERS = ("h_s/deconv0", "h_s/deconv1")  # of h_s: they may saturate channel by channel


class LayerSpec(NamedTuple):
    """How one layer is computed."""

    name: str  # "h_s/deconv0": where its parameters stand in the tree of parameters
    inputs: tuple[str, ...]  # Z, Y or names of layers, whose channels are concatenated
    input_max: int  # the inputs saturate here, or channel by channel at less
    channels: tuple[int, int]  # of the inputs and the outputs
    taps: tuple[int, ...] | None  # the kernel's leading axes; None: any odd square
    # |kernel| times the largest inputs -> its sum over each matrix product that an output takes:
    # float64 [kinds of output pixel, products, O]
    sums: Callable[[np.ndarray], np.ndarray]
    added_in_int32: bool = False  # an output's products and bias; else the bias counts to SUM_MAX

    def parameters_in(self, params: dict) -> dict:
        """Return the layer's {"kernel": ..., "bias": ...} from a tree of parameters."""
        part, layer = self.name.split("/")
        return params[part][layer]


def layer_specs(config: Config) -> tuple[LayerSpec, ...]:
    """Return the layers of h_s and then those of the context model, in the order of evaluation."""
    w = config.hyper_widths
    names = (*HIDDEN_LAYERS, "h_s/conv2")
    h_s = (
        LayerSpec(names[0], (Z,), Z_MAX, w[:2], (5, 5), _sums_of_runs, True),
        LayerSpec(names[1], names[:1], ACTIVATION_MAX, w[1:3], (5, 5), _sums_of_phases),
        LayerSpec(names[2], names[1:2], ACTIVATION_MAX, w[2:], None, _sum_of_all),
    )
    return h_s + _context_specs(config, names[2]) if config.has_context else h_s


def _context_specs(config: Config, psi: str) -> tuple[LayerSpec, ...]:
    m, v, limit = config.M, context.widths(config), FEATURE_MAX
    features = "context/conv"
    names = tuple(f"entropy_parameters/conv{i}" for i in range(3))
    one = (1, 1)
    return (
        LayerSpec(features, (Y,), limit, (m, 2 * m), (12,), _sums_of_rows, True),
        LayerSpec(names[0], (psi, features), limit, v[:2], one, _sums_of_halves, True),
        LayerSpec(names[1], names[:1], limit, v[1:3], one, _sum_of_all),
        LayerSpec(names[2], names[1:2], limit, v[2:], one, _sum_of_all),
    )


def last_layer(config: Config) -> str:
    """Return the name of the layer that gives sigma and mu."""
    return layer_specs(config)[-1].name


def fits(
    spec: LayerSpec, limits: np.ndarray, kernel: np.ndarray, bias: np.ndarray, shift: np.ndarray
) -> np.ndarray:
    """Return bool [O]: the output channels whose sums are exact and whose weights fit int16.

    limits: largest magnitudes of the inputs [I]. kernel, bias: integers in float64; bias [O], or
    [rows,O] to hold for each row.
    """
    size = np.abs(kernel)
    sums = spec.sums(size * limits[:, None])
    added = np.max(np.atleast_2d(np.abs(bias) + np.floor(np.ldexp(0.5, shift))), axis=0)
    if spec.added_in_int32:
        exact = sums.max((0, 1)) <= SUM_MAX
        exact &= sums.sum(1).max(0) <= _INT32_SUM_MAX
        exact &= added <= BIAS_MAX + SUM_MAX
    else:
        exact = sums.max((0, 1)) + added <= SUM_MAX
    return exact & (size.reshape(-1, size.shape[-1]).max(0) <= WEIGHT_MAX)


def largest_shift(
    spec: LayerSpec, limits: np.ndarray, kernel: np.ndarray, bias: np.ndarray
) -> np.ndarray:
    """Return int [O]: the largest shift in -60 ... 20 with which the layer fits, else -1000.

    limits: see `fits`. kernel, bias: float64, in units of the layer's inputs and outputs (see
    `to_integers`).
    """
    best = np.full(len(bias), -1000)
    for shift in _SHIFTS:
        found = fits(spec, limits, *to_integers(kernel, bias, shift), shift)
        best[(best < shift) & found] = shift
        if best.min() >= shift:
            break
    return best


def to_integers(kernel: np.ndarray, bias: np.ndarray, shift: np.ndarray | int) -> tuple:
    """Return (kernel, bias) times 2**shift, rounded half to even: float64."""
    factor = np.ldexp(1.0, shift)  # products with powers of two are exact
    return np.rint(kernel * factor), np.rint(bias * factor)


def _sum_of_all(size: np.ndarray) -> np.ndarray:
    """One product over all taps and channels, as in a convolution."""
    return _over_inputs(size)[None, None]


def _sums_of_phases(size: np.ndarray) -> np.ndarray:
    """One product for each output pixel of a 2x2 block, as in `network.upsample`."""
    return np.stack([_over_inputs(taps)[None] for taps in _phases(size)])


def _sums_of_runs(size: np.ndarray) -> np.ndarray:
    """For each output pixel of a 2x2 block one product for each run of input channels."""
    starts = range(0, size.shape[-2], RUN_CHANNELS)
    runs = [size[..., i : i + RUN_CHANNELS, :] for i in starts]
    return np.stack([_sums_of_phases(run)[:, 0] for run in runs], axis=1)


def _sums_of_rows(size: np.ndarray) -> np.ndarray:
    """One product for each row of the context's kernel."""
    return np.stack([_over_inputs(size[row]) for row in context.ROWS])[None]


def _sums_of_halves(size: np.ndarray) -> np.ndarray:
    """One product for psi and one for the context's features."""
    return np.stack([_over_inputs(half) for half in np.split(size, 2, axis=-2)])[None]


def _phases(size: np.ndarray) -> list[np.ndarray]:
    return [size[r::2, s::2] for r in (0, 1) for s in (0, 1)]


def _over_inputs(part: np.ndarray) -> np.ndarray:
    """Return the sums over all axes but the last: [O]."""
    return part.sum(tuple(range(part.ndim - 1)))
