"""Scale refinement: scale indices of jvrc2026, corrected by symbols of y that are decoded already.

sigma follows from z alone. But symbols of y are known before any mean is, so they may be decoded in
the four steps of the context model, and what those of earlier steps turned out to be tells more of
the scales of later ones. A small network per step, on integers as jvrc.integer.network has them,
looks at

    score   of each symbol of an earlier step: how much larger than expected it is, else 0
    index   of each scale, as h_s gives it
    code    of the quantisation step Delta, see `coarse_code`

at the latent's own position, through one hidden layer, and at the scores of its own channel in the
5x5 positions around. The result, plus a number that depends on the scale index, is added to
that index when the CDF table of the symbol is chosen, and to nothing else: y^ does not depend on
it.
jvrc/coding/FORMAT.md, section 6.2, specifies it; jvrc.export.refinement fits it.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jvrc.integer.hyper_synthesis import INDEX_COUNT
from jvrc.integer.network import SUM_MAX, product, rounded_shift
from jvrc.model import jvrc2026
from jvrc.model.transforms import Valid, within

MAGNITUDE_MAX = 15  # larger |q| have the score of this one
HIDDEN_MAX = 2**8 - 1  # the hidden layer saturates here
COARSE_MAX = 96  # see `coarse_code`
REACH = 2  # positions that a latent's own channel is looked at around it
UNIT_SHIFT = 4  # results are in sixteenths of a scale index
SCORE_MAX = 2**7 - 1
SHIFT_MAX = 24


class ScaleRefinement(NamedTuple):
    """The integers of the four steps' networks; H: channels of the hidden layer.

    A layer's sums are divided by 2**shift, rounded.
    """

    score: np.ndarray  # int8 [90,16], by scale index and |q|
    hidden_kernel: np.ndarray  # int16 [4,2M+1,H]: from scores, scale indices and the code
    hidden_bias: np.ndarray  # int32 [4,H]
    hidden_shift: np.ndarray  # int8 [4,H]
    out_kernel: np.ndarray  # int16 [4,H+1,M]: from the hidden layer and the code
    around: np.ndarray  # int16 [4,5,5,M]: from the scores of the own channel
    out_bias: np.ndarray  # int32 [4,M]
    out_shift: np.ndarray  # int8 [4,M]
    by_index: np.ndarray  # int16 [4,90], added by scale index


def coarse_code(qstep_code: int) -> int:
    """Return what the networks see of Delta: an eighth of its qstep code, 0 ... COARSE_MAX."""
    return (qstep_code + 128) >> 3


def refine(
    refinement: ScaleRefinement,
    step: Array | int,
    magnitude: Array,
    index: Array,
    code: Array | int,
    valid: Valid = None,
) -> Array:
    """Return the refined scale indices, uint8 [h,w,M], of which those of the step are meant.

    step: 0 ... 3. magnitude: |q|, at most MAGNITUDE_MAX, uint8 [h,w,M]; only those of earlier steps
      matter. index: uint8 [h,w,M]. code: see `coarse_code`. valid: the part of a tile inside the
      image (jvrc.model.transforms).
    """
    net = ScaleRefinement(refinement.score, *(field[step] for field in refinement[1:]))
    h, w, m = index.shape
    steps = jnp.asarray(jvrc2026.step_numbers(m, 2, 2), jnp.int32)
    earlier = jnp.tile(steps, (h // 2, w // 2, 1)) < step
    score = jnp.where(earlier, net.score[index, magnitude].astype(jnp.float32), 0.0)
    score = within(score[None], valid, 16)[0]
    codes = jnp.full((h, w, 1), code, jnp.float32)
    x = jnp.concatenate([score, index.astype(jnp.float32), codes], axis=-1)
    x = rounded_shift(product(x, net.hidden_kernel), net.hidden_bias, net.hidden_shift)
    x = jnp.clip(x, 0, HIDDEN_MAX).astype(jnp.float32)
    total = product(jnp.concatenate([x, codes], axis=-1), net.out_kernel).astype(jnp.int32)
    total = total + _around(net.around, score)
    found = rounded_shift(total, net.out_bias, net.out_shift)
    found = found + net.by_index[index].astype(jnp.int32)
    found = index.astype(jnp.int32) + ((found + (1 << UNIT_SHIFT >> 1)) >> UNIT_SHIFT)
    return jnp.clip(found, 0, INDEX_COUNT - 1).astype(jnp.uint8)


def _around(kernel: Array, score: Array) -> Array:
    """Return the sums over each channel's own scores around, zero outside: int32 [h,w,M]."""
    h, w, _ = score.shape
    padded = jnp.pad(score, ((REACH, REACH), (REACH, REACH), (0, 0)))
    kernel = kernel.astype(jnp.float32)[:, :, None, None]
    taps = range(2 * REACH + 1)
    sums = [padded[i : i + h, j : j + w] * kernel[i, j] for i in taps for j in taps]
    return sum(sums[1:], sums[0]).astype(jnp.int32)


def check(refinement: ScaleRefinement, m: int) -> None:
    """Raise ValueError unless the arrays are those of M channels and all sums are exact."""
    hidden = refinement.hidden_bias.shape[-1]
    expected = {
        "score": (np.int8, (INDEX_COUNT, MAGNITUDE_MAX + 1)),
        "hidden_kernel": (np.int16, (jvrc2026.STEPS, 2 * m + 1, hidden)),
        "hidden_bias": (np.int32, (jvrc2026.STEPS, hidden)),
        "hidden_shift": (np.int8, (jvrc2026.STEPS, hidden)),
        "out_kernel": (np.int16, (jvrc2026.STEPS, hidden + 1, m)),
        "around": (np.int16, (jvrc2026.STEPS, 2 * REACH + 1, 2 * REACH + 1, m)),
        "out_bias": (np.int32, (jvrc2026.STEPS, m)),
        "out_shift": (np.int8, (jvrc2026.STEPS, m)),
        "by_index": (np.int16, (jvrc2026.STEPS, INDEX_COUNT)),
    }
    for name, (kind, shape) in expected.items():
        found = getattr(refinement, name)
        if found.dtype != kind or found.shape != shape:
            raise ValueError(
                f"refinement/{name} must be {np.dtype(kind)} {shape}, got {found.dtype} "
                f"{found.shape}"
            )
    if refinement.score.min() < -SCORE_MAX:
        raise ValueError(f"scores of the refinement must be within {SCORE_MAX}")
    for shift in (refinement.hidden_shift, refinement.out_shift):
        if shift.min() < 0 or shift.max() > SHIFT_MAX:
            raise ValueError(f"shifts of the refinement must be in 0 ... {SHIFT_MAX}")
    if max(sums.max() for sums in largest_sums(refinement, m)) > SUM_MAX:
        raise ValueError(f"sums of the refinement must stay within {SUM_MAX}")


def largest_sums(refinement: ScaleRefinement, m: int) -> tuple[np.ndarray, ...]:
    """Return the largest magnitudes of each layer's sums: int64 [4,H] and [4,M]."""
    inputs = np.repeat([SCORE_MAX, INDEX_COUNT - 1, COARSE_MAX], [m, m, 1])
    hidden = _largest(refinement.hidden_kernel, inputs, refinement.hidden_bias)
    inputs = np.append(np.full(refinement.out_kernel.shape[1] - 1, HIDDEN_MAX), COARSE_MAX)
    out = _largest(refinement.out_kernel, inputs, refinement.out_bias)
    return hidden, out + SCORE_MAX * np.abs(refinement.around.astype(np.int64)).sum((1, 2))


def _largest(kernel: np.ndarray, inputs: np.ndarray, bias: np.ndarray) -> np.ndarray:
    sums = (np.abs(kernel.astype(np.int64)) * inputs[:, None]).sum(1)
    return sums + np.abs(bias.astype(np.int64))
