"""Claims about the measures of quality."""

import math

import numpy as np
import pytest

from jvrc.evaluation.metrics import psnr


def test_psnr_of_equal_images_is_infinite():
    img = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert psnr(img, img) == math.inf


def test_psnr_of_a_known_error():
    black, white = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)
    assert psnr(black, white) == psnr(white, black) == 0
    one_off = black.copy()
    one_off[0, 0, 0] = 255
    assert psnr(black, one_off) == pytest.approx(10 * math.log10(12))


def test_psnr_refuses_other_arrays():
    img = np.zeros((2, 2, 3), np.uint8)
    with pytest.raises(ValueError, match="must be uint8, got float64"):
        psnr(img / 255, img)
    with pytest.raises(ValueError, match="shapes must be equal"):
        psnr(img, img[:1])
    with pytest.raises(ValueError, match="not empty"):
        psnr(img[:0], img[:0])
