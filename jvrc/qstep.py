"""The grid of quantisation steps Delta, and the rate-distortion weight lambda of each.

A step is named by an integer code, 128 codes to the octave:

    Delta = 2 ** (qstep_code / 128)

A stream stores the code, never the float: whatever must be exact is looked up by the code, so the
last bit of the power does not matter. Neighbouring steps differ by 0.54 %.
"""

import math
from typing import TypeVar

CODES_PER_OCTAVE = 128
QSTEP_MIN = 0.5
QSTEP_MAX = 32.0
QSTEP_CODE_MIN = -1 * CODES_PER_OCTAVE
QSTEP_CODE_MAX = 5 * CODES_PER_OCTAVE

LAMBDA_AT_ONE = 0.18  # lambda at Delta = 1

T = TypeVar("T")  # float, or an array of NumPy or JAX


def rd_lambda(qstep: T) -> T:
    """Return lambda of L = bpp + lambda * 255^2 * MSE (MSE on [0,1]) for steps of any shape.

    lambda = 0.18 / Delta^2: the eight pairs of Kamisli et al. 2024, Sec. 4, lie on this line.
    """
    return LAMBDA_AT_ONE / qstep**2


def qstep_code_of(qstep: float) -> int:
    """Return the code of the nearest step of the grid (nearest in the logarithm).

    Raises:
      ValueError: ``qstep`` is no number in QSTEP_MIN ... QSTEP_MAX.
    """
    try:
        value = math.nan if isinstance(qstep, (str, bytes, bool)) else float(qstep)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not QSTEP_MIN <= value <= QSTEP_MAX:
        raise ValueError(
            f"qstep must be a number in {QSTEP_MIN:g} ... {QSTEP_MAX:g}, got {qstep!r}; "
            "a smaller step gives a better image and more bytes"
        )
    return round(CODES_PER_OCTAVE * math.log2(value))


def qstep_of(qstep_code: int) -> float:
    """Return the step of a code in QSTEP_CODE_MIN ... QSTEP_CODE_MAX; ValueError outside."""
    qstep_row(qstep_code)
    return 2.0 ** (qstep_code / CODES_PER_OCTAVE)


def qstep_row(qstep_code: int) -> int:
    """Return the row of a code in tables that have one for each code; ValueError outside."""
    if not QSTEP_CODE_MIN <= qstep_code <= QSTEP_CODE_MAX:
        raise ValueError(
            f"qstep code must be in {QSTEP_CODE_MIN} ... {QSTEP_CODE_MAX}, got {qstep_code}"
        )
    return qstep_code - QSTEP_CODE_MIN
