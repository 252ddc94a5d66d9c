"""Distortion between two pictures: uint8 [H,W,3]."""

import math

import numpy as np

# Wang, Simoncelli, Bovik 2003, Sec. 3.2; Wang et al. 2004 for the window and the constants.
_MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
MS_SSIM_MIN_SIDE = (_WINDOW - 1) * 2 ** (len(_MS_SSIM_WEIGHTS) - 1) + 1  # pixels: 161


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the PSNR in dB over all samples: 10 log10(255² / MSE), ``inf`` for equal pictures.

    Raises:
      ValueError: the arrays are not uint8, are empty, or their shapes differ.
    """
    a, b = _checked("psnr", a, b)
    return _decibels(a.astype(np.int32) - b)


def psnr_luma(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the PSNR in dB of the luma (full-range BT.601, not rounded); as `psnr` otherwise."""
    a, b = _checked("psnr_luma", a, b)
    return _decibels(luma(a) - luma(b))


def luma(img: np.ndarray) -> np.ndarray:
    """Y' = 0.299 R' + 0.587 G' + 0.114 B' (BT.601, full range): [...,3] -> float64 [...]."""
    return np.asarray(img, np.float64) @ np.array([0.299, 0.587, 0.114])


def ms_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the multi-scale structural similarity, 1 for equal pictures: mean over R, G and B.

    Wang, Simoncelli and Bovik 2003, Eq. 7, five scales; Gaussian window of 11 samples, sigma 1.5,
    where it fits into the picture; halved by 2x2 means, odd sides with a zero before the first
    sample that counts in the mean, as the PyTorch packages of the field have it. A negative factor
    counts as zero.

    Raises:
      ValueError: as `psnr`; a side is below 161 pixels.
    """
    a, b = _checked("ms_ssim", a, b)
    if min(a.shape[:2]) < MS_SSIM_MIN_SIDE:
        raise ValueError(
            f"ms_ssim: sides must be at least {MS_SSIM_MIN_SIDE} pixels, got {list(a.shape[:2])}"
        )
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
    """An SSIM or MS-SSIM as -10 log10(1 - s), dB: the scale on which curves are drawn."""
    return math.inf if similarity >= 1 else -10 * math.log10(1 - similarity)


def _checked(name: str, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype != np.uint8 or b.dtype != np.uint8:
        raise ValueError(f"{name}: a and b must be uint8, got {a.dtype} and {b.dtype}")
    if a.shape != b.shape or a.size == 0:
        raise ValueError(f"{name}: shapes must be equal, not empty, got {a.shape} and {b.shape}")
    return a, b


def _decibels(difference: np.ndarray) -> float:
    mse = float(np.mean(np.square(difference), dtype=np.float64))
    return math.inf if mse == 0 else 10 * math.log10(255**2 / mse)


def _similarity(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """SSIM's two factors, l and c*s, where the whole window fits: [C,H,W] -> [C,H-10,W-10]."""
    mean_x, mean_y = _blurred(x), _blurred(y)
    var_x, var_y = _blurred(x * x) - mean_x**2, _blurred(y * y) - mean_y**2
    covariance = _blurred(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    return luminance, (2 * covariance + _C2) / (var_x + var_y + _C2)


def _blurred(x: np.ndarray) -> np.ndarray:
    from scipy.ndimage import correlate1d

    offsets = np.arange(_WINDOW) - _WINDOW // 2
    window = np.exp(-(offsets**2) / (2 * _SIGMA**2))
    window /= window.sum()
    edge = _WINDOW // 2
    rows = correlate1d(x, window, axis=1)[:, edge:-edge]
    return correlate1d(rows, window, axis=2)[:, :, edge:-edge]


def _halved(x: np.ndarray) -> np.ndarray:
    """Means of 2x2 samples; an odd side gets a zero in front."""
    x = np.pad(x, [(0, 0), *((size % 2, 0) for size in x.shape[1:])])
    c, h, w = x.shape
    return x.reshape(c, h // 2, 2, w // 2, 2).mean((2, 4))
