"""The grid of quantisation steps: an integer code for each step, 128 codes to the octave.

    step = 2 ** (code / 128)

A stream stores the code, never the float: the receiver looks up by the code whatever must be exact,
so the last bit of the power does not matter. Neighbouring steps differ by 0.54 %. Imports nothing
of jvrc.
"""

import math

CODES_PER_OCTAVE = 128
QSTEP_MIN = 0.5
QSTEP_MAX = 32.0
CODE_MIN = -1 * CODES_PER_OCTAVE
CODE_MAX = 5 * CODES_PER_OCTAVE


def snap(qstep: float) -> int:
    """Returns the code of the nearest step of the grid (in the logarithm).

    Raises:
      ValueError: ``qstep`` is no number in QSTEP_MIN ... QSTEP_MAX.
    """
    try:
        value = math.nan if isinstance(qstep, str) else float(qstep)
    except (TypeError, ValueError):
        value = math.nan
    if not QSTEP_MIN <= value <= QSTEP_MAX:
        raise ValueError(
            f"qstep must be a number in {QSTEP_MIN:g} ... {QSTEP_MAX:g}, got {qstep!r}; "
            "a smaller step gives a better picture and more bytes"
        )
    return round(CODES_PER_OCTAVE * math.log2(value))


def qstep_of(code: int) -> float:
    """Returns the step of a code in CODE_MIN ... CODE_MAX; ValueError outside."""
    if not CODE_MIN <= code <= CODE_MAX:
        raise ValueError(f"step code must be in {CODE_MIN} ... {CODE_MAX}, got {code}")
    return 2.0 ** (code / CODES_PER_OCTAVE)
