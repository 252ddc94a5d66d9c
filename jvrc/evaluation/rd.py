"""Rate-distortion curves and the Bjøntegaard delta rate between them.

A curve is float64 [n,2]: bits per pixel and PSNR in dB, one row a step or quality.
"""

import numpy as np
from scipy.interpolate import PchipInterpolator


def bd_rate(anchor: np.ndarray, test: np.ndarray) -> float:
    """Mean difference in rate at equal PSNR, in percent: negative where `test` needs fewer bits.

    Bjøntegaard's delta (VCEG-M33) with piecewise cubic Hermite interpolation (PCHIP) of the
    logarithm of the rate, over the range of PSNR that both curves cover.

    Raises:
      ValueError: fewer than two points, PSNR that does not rise with the rate, or no common range.
    """
    low, high = common_range(anchor, test)
    curves = [_checked(anchor, "anchor"), _checked(test, "test")]
    means = [
        float(PchipInterpolator(c[:, 1], np.log(c[:, 0])).integrate(low, high)) / (high - low)
        for c in curves
    ]
    return 100 * float(np.expm1(means[1] - means[0]))


def common_range(anchor: np.ndarray, test: np.ndarray) -> tuple[float, float]:
    """The PSNR in dB, lowest and highest, that both curves cover: what `bd_rate` averages over.

    Raises:
      ValueError: as `bd_rate`.
    """
    curves = [_checked(anchor, "anchor"), _checked(test, "test")]
    low = max(float(c[0, 1]) for c in curves)
    high = min(float(c[-1, 1]) for c in curves)
    if low >= high:
        raise ValueError(f"the curves must share a range of PSNR; got {low:.2f} … {high:.2f} dB")
    return low, high


def between_rates(curve: np.ndarray, low: float, high: float) -> np.ndarray:
    """The part of a curve between two rates (bpp), with interpolated ends where it covers them."""
    curve = _checked(curve, "curve")
    log_rate = np.log(curve[:, 0])
    ends = [r for r in (low, high) if curve[0, 0] < r < curve[-1, 0]]
    psnr = PchipInterpolator(log_rate, curve[:, 1])
    inside = curve[(curve[:, 0] >= low) & (curve[:, 0] <= high)]
    extra = np.array([[r, float(psnr(np.log(r)))] for r in ends]).reshape(-1, 2)
    return _checked(np.concatenate([inside, extra]), "curve")


def _checked(curve: np.ndarray, name: str) -> np.ndarray:
    """Sorted by rate, duplicate rows removed."""
    curve = np.unique(np.asarray(curve, np.float64), axis=0)
    if curve.ndim != 2 or curve.shape[1] != 2 or len(curve) < 2:
        raise ValueError(f"{name} must be [n,2] with n >= 2; got shape {list(curve.shape)}")
    if np.any(np.diff(curve[:, 1]) <= 0):
        raise ValueError(f"{name} must have a PSNR that rises with the rate")
    return curve
