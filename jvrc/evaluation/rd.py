"""Rate-distortion curves and the Bjøntegaard delta rate between them.

A curve is float64 [n,2]: bits per pixel and PSNR (or another distortion) in dB, one row a setting.
"""

import numpy as np
from scipy.interpolate import PchipInterpolator


def bd_rate(anchor: np.ndarray, test: np.ndarray) -> float:
    """Return the Bjøntegaard delta rate in percent; negative if `test` needs fewer bits.

        100 · (exp(1 / (D_high - D_low) · ∫ (ln R_test(D) - ln R_anchor(D)) dD) - 1)

    over the PSNR D_low ... D_high that both curves cover. G. Bjøntegaard 2001, VCEG-M33, with
    piecewise cubic Hermite interpolation (PCHIP) of ln R(D) in the place of its cubic polynomial.

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
    """Return the lowest and highest PSNR in dB that both curves cover, the range of `bd_rate`.

    Raises:
      ValueError: as `bd_rate`.
    """
    curves = [_checked(anchor, "anchor"), _checked(test, "test")]
    low = max(float(c[0, 1]) for c in curves)
    high = min(float(c[-1, 1]) for c in curves)
    if low >= high:
        raise ValueError(f"the curves must share a range of PSNR; got {low:.2f} … {high:.2f} dB")
    return low, high


def covered(anchor: np.ndarray, test: np.ndarray, low: float, high: float) -> float:
    """Return the share, 0 … 1, of the rates low … high that the BD-rate of two curves covers.

    Rates are those of `test`, in bpp; shares are of ln of the rate. It is below 1 where a curve
    ends inside the range.

    Raises:
      ValueError: as `bd_rate`.
    """
    ends = np.array(common_range(anchor, test))
    curve = _checked(test, "test")
    logs = PchipInterpolator(curve[:, 1], np.log(curve[:, 0]))(ends)
    return float(np.ptp(np.clip(logs, np.log(low), np.log(high))) / np.log(high / low))


def rates_beside(anchor: np.ndarray, test: np.ndarray, count: int = 100) -> np.ndarray:
    """Return the rate that `test` needs beside `anchor` at equal PSNR, where both curves have it.

    [count,2]: the rate of `anchor` in bpp, and by how many percent that of `test` is higher. The
    curves are interpolated as in `bd_rate`.

    Raises:
      ValueError: as `bd_rate`.
    """
    grid = np.linspace(*common_range(anchor, test), count)
    curves = (_checked(anchor, "anchor"), _checked(test, "test"))
    logs = [PchipInterpolator(c[:, 1], np.log(c[:, 0]))(grid) for c in curves]
    return np.stack([np.exp(logs[0]), 100 * np.expm1(logs[1] - logs[0])], axis=1)


def between_rates(curve: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return the part of a curve between two rates in bpp, with points interpolated at its ends.

    Where the curve does not reach a rate, its part ends at its own last point.

    Raises:
      ValueError: as `bd_rate`; fewer than two points are left.
    """
    curve = _checked(curve, "curve")
    log_rate = np.log(curve[:, 0])
    ends = [r for r in (low, high) if curve[0, 0] < r < curve[-1, 0]]
    psnr = PchipInterpolator(log_rate, curve[:, 1])
    inside = curve[(curve[:, 0] >= low) & (curve[:, 0] <= high)]
    extra = np.array([[r, float(psnr(np.log(r)))] for r in ends]).reshape(-1, 2)
    return _checked(np.concatenate([inside, extra]), "curve")


def _checked(curve: np.ndarray, name: str) -> np.ndarray:
    """Return a curve sorted by rate, without duplicate rows."""
    curve = np.unique(np.asarray(curve, np.float64), axis=0)
    if curve.ndim != 2 or curve.shape[1] != 2 or len(curve) < 2:
        raise ValueError(f"{name} must be [n,2] with n >= 2; got shape {list(curve.shape)}")
    if np.any(np.diff(curve[:, 1]) <= 0):
        raise ValueError(f"{name} must have a PSNR that rises with the rate")
    return curve
