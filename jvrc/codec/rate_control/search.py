"""The search for the first place on a grid that fits, where every look is dear and estimates help.

A place fits if its excess over a target is not positive. The excess falls along the places, but not
strictly: what is found fits and stands beside a place that does not, unless it is close enough.
"""

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import numpy as np

# After so many measurements every other one halves what is left, whatever the estimates say.
_PATIENCE = 5
_LATE = 3


class Closeness(NamedTuple):
    """How close to its target a search comes, in units of the excess."""

    margin: float  # aimed at, below the target
    enough: float  # an excess of -enough ... 0 ends the search
    late: float  # the same, once three places have been measured


T = TypeVar("T")


class SearchResult(NamedTuple, Generic[T]):
    """The place that a search ends at."""

    excess: float  # positive: nothing fits, and this is the last place
    result: T  # of measuring it
    corrected: np.ndarray  # the estimates as the measurements have corrected them


def first_that_fits(
    measure: Callable[[int], tuple[float, T]], estimated: np.ndarray, closeness: Closeness
) -> SearchResult[T]:
    """Return the first place that fits.

    measure: place -> (excess, result). estimated: the excess of each place, float [n].
    """
    low, high = -1, len(estimated)  # what does not fit, and what does
    trials: dict[int, float] = {}
    best = (np.inf, None)
    while high - low > 1:
        place = _next_place(low, high, trials, estimated, closeness.margin)
        excess, result = measure(place)
        trials[place] = excess
        if excess <= 0 or place == len(estimated) - 1:
            best = excess, result
        near = closeness.enough if len(trials) < _LATE else closeness.late
        if -near <= excess <= 0:
            break
        low, high = (low, place) if excess <= 0 else (place, high)
    return SearchResult(*best, corrected(estimated, trials))


def corrected(estimated: np.ndarray, trials: dict[int, float]) -> np.ndarray:
    """Return estimates that agree with the excess measured at some places.

    The correction is linear between two places, goes on beyond the last ones as far as they lie
    apart, and is constant from there.
    """
    if not trials:
        return estimated
    places = np.array(sorted(trials), np.float64)
    off = np.array([trials[int(p)] - estimated[int(p)] for p in places])
    if len(places) > 1:
        places, off = (
            np.concatenate([[2 * a[0] - a[1]], a, [2 * a[-1] - a[-2]]]) for a in (places, off)
        )
    return estimated + np.interp(np.arange(len(estimated)), places, off)


def _next_place(
    low: int, high: int, trials: dict[int, float], estimated: np.ndarray, margin: float
) -> int:
    if len(trials) >= _PATIENCE and len(trials) % 2:
        return (low + high) // 2
    fits = corrected(estimated, trials) <= -margin
    fits[-1] = True
    return min(max(int(np.argmax(fits)), low + 1), high - 1)
