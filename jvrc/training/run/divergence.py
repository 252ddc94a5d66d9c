"""Divergence: a run whose loss or parameters blow up stops and says what to do."""

from collections.abc import Sequence

import numpy as np

DIVERGED = 5.0  # times the lowest loss of the run


def has_diverged(losses: Sequence[float]) -> bool:
    """Return True if the last loss is not finite, or above DIVERGED times the lowest before it."""
    *earlier, last = losses
    return not np.isfinite(last) or last > DIVERGED * min(earlier, default=np.inf)


def check_divergence(losses: Sequence[float], step: int) -> None:
    """Raise FloatingPointError, with the remedy, if `losses` have diverged."""
    if has_diverged(losses):
        raise FloatingPointError(
            f"training diverged near step {step}; the last checkpoint is sound: start a new run "
            "from it (--from RUN) with a lower --learning-rate"
        )
