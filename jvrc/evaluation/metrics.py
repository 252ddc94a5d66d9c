"""Distortion between two images, uint8 [H,W,3]: PSNR, MS-SSIM and SSIMULACRA 2.

[1] Wang, Simoncelli, Bovik 2003, "Multiscale structural similarity for image quality assessment".
[2] Wang, Bovik, Sheikh, Simoncelli 2004, "Image quality assessment: from error visibility to
    structural similarity".
"""

import math

import numpy as np

from jvrc.evaluation import ssimulacra2 as _ssimulacra2

_PEAK = 255
_MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, finest first: [1] 3.2
_WINDOW, _SIGMA = 11, 1.5  # samples, of the Gaussian window: [2] III.B
_C1, _C2 = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2  # [2] III.B
MS_SSIM_MIN_SIDE = (_WINDOW - 1) * 2 ** (len(_MS_SSIM_WEIGHTS) - 1) + 1  # pixels: 161
SSIMULACRA2_MIN_SIDE = _ssimulacra2.MIN_SIDE


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Return the PSNR in dB over all samples of R, G and B; `inf` for equal images.

        PSNR = 10 log10(255² / MSE)

    Raises:
      ValueError: the arrays are not uint8, are empty, or their shapes differ.
    """
    a, b = _checked("psnr", a, b)
    return _decibels(a.astype(np.int32) - b)


def psnr_luma(a: np.ndarray, b: np.ndarray) -> float:
    """Return the PSNR in dB of the luma, not rounded (see `luma`); otherwise as `psnr`."""
    a, b = _checked("psnr_luma", a, b)
    return _decibels(luma(a) - luma(b))


def luma(img: np.ndarray) -> np.ndarray:
    """Return the luma float64 [...] of RGB [...,3] (ITU-R BT.601, full range).

    Y' = 0.299 R' + 0.587 G' + 0.114 B'
    """
    return np.asarray(img, np.float64) @ np.array([0.299, 0.587, 0.114])


def ms_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Return the multi-scale structural similarity, at most 1: the mean of those of R, G and B.

        MS-SSIM = mean(l_5 cs_5)^w_5 · Π_j mean(cs_j)^w_j, j = 1 ... 4       ([1] Eq. 7)

    l_j is the luminance term at scale j, cs_j the product of its contrast and structure terms, in a
    Gaussian window; the mean is over the positions where the window fits into the image. Each scale
    is the one before it halved by 2x2 means. As in the package pytorch-msssim, an odd side gets a
    zero before its first sample, and a negative mean counts as zero.

    Raises:
      ValueError: as `psnr`; a side is below 161 pixels.
    """
    a, b = _checked("ms_ssim", a, b)
    _check_sides("ms_ssim", a, MS_SSIM_MIN_SIDE)
    x, y = (np.moveaxis(np.asarray(img, np.float64), 2, 0) for img in (a, b))
    product = np.ones(len(x))
    for i, weight in enumerate(_MS_SSIM_WEIGHTS):
        luminance, contrast = _similarity(x, y)
        last = i == len(_MS_SSIM_WEIGHTS) - 1
        factor = np.mean(luminance * contrast if last else contrast, axis=(1, 2))
        product *= np.maximum(factor, 0) ** weight
        if not last:
            x, y = _halved(x), _halved(y)
    return float(product.mean())


def in_decibels(similarity: float) -> float:
    """Return -10 log10(1 - s) of an SSIM or MS-SSIM s: the dB on which curves are drawn."""
    return math.inf if similarity >= 1 else -10 * math.log10(1 - similarity)


def ssimulacra2(a: np.ndarray, b: np.ndarray) -> float:
    """Return the SSIMULACRA 2 score of `b`, of which `a` is the original (`ssimulacra2.py`).

    100 for equal images, 90 where a difference can hardly be seen, 70 for high, 50 for medium and
    30 for low quality; negative if worse. The images are taken as sRGB.

    Raises:
      ValueError: as `psnr`; a side is below 225 pixels, where the score has fewer than six scales.
    """
    a, b = _checked("ssimulacra2", a, b)
    _check_sides("ssimulacra2", a, SSIMULACRA2_MIN_SIDE)
    return _ssimulacra2.score(a, b)


def _check_sides(name: str, img: np.ndarray, least: int) -> None:
    if min(img.shape[:2]) < least:
        raise ValueError(
            f"{name}: sides must be at least {least} pixels, got {list(img.shape[:2])}"
        )


def _checked(name: str, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype != np.uint8 or b.dtype != np.uint8:
        raise ValueError(f"{name}: a and b must be uint8, got {a.dtype} and {b.dtype}")
    if a.shape != b.shape or a.size == 0:
        raise ValueError(f"{name}: shapes must be equal, not empty, got {a.shape} and {b.shape}")
    return a, b


def _decibels(difference: np.ndarray) -> float:
    mse = float(np.mean(np.square(difference), dtype=np.float64))
    return math.inf if mse == 0 else 10 * math.log10(_PEAK**2 / mse)


def _similarity(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return l and cs of every position where the window fits ([2] Eq. 6 and 13): [C,H-10,W-10].

    l = (2 μx μy + C1) / (μx² + μy² + C1)      cs = (2 σxy + C2) / (σx² + σy² + C2)
    """
    mean_x, mean_y = _blurred(x), _blurred(y)
    var_x, var_y = _blurred(x * x) - mean_x**2, _blurred(y * y) - mean_y**2
    covariance = _blurred(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    return luminance, (2 * covariance + _C2) / (var_x + var_y + _C2)


def _blurred(x: np.ndarray) -> np.ndarray:
    """Return the Gaussian-weighted means of the windows that fit: [C,H,W] -> [C,H-10,W-10]."""
    from scipy.ndimage import correlate1d

    offsets = np.arange(_WINDOW) - _WINDOW // 2
    window = np.exp(-(offsets**2) / (2 * _SIGMA**2))
    window /= window.sum()
    edge = _WINDOW // 2
    rows = correlate1d(x, window, axis=1)[:, edge:-edge]
    return correlate1d(rows, window, axis=2)[:, :, edge:-edge]


def _halved(x: np.ndarray) -> np.ndarray:
    """Return the means of 2x2 samples, [C,⌈H/2⌉,⌈W/2⌉]; an odd side gets a zero in front."""
    x = np.pad(x, [(0, 0), *((size % 2, 0) for size in x.shape[1:])])
    c, h, w = x.shape
    return x.reshape(c, h // 2, 2, w // 2, 2).mean((2, 4))
