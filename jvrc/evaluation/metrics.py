"""Distortion between two pictures: uint8 [H,W,3], in dB. NumPy only."""

import math

import numpy as np


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the PSNR in dB over all samples: 10 log10(255² / MSE), ``inf`` for equal pictures.

    Raises:
      ValueError: the arrays are not uint8, are empty, or their shapes differ.
    """
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype != np.uint8 or b.dtype != np.uint8:
        raise ValueError(f"psnr: a and b must be uint8, got {a.dtype} and {b.dtype}")
    if a.shape != b.shape or a.size == 0:
        raise ValueError(f"psnr: shapes must be equal, not empty, got {a.shape} and {b.shape}")
    difference = a.astype(np.int32) - b
    mse = float(np.mean(np.square(difference), dtype=np.float64))
    return math.inf if mse == 0 else 10 * math.log10(255**2 / mse)
