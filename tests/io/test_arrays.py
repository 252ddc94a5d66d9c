"""Claims about arrays as pictures."""

import numpy as np
import pytest

from jvrc.io.images import as_picture
from jvrc.io.picture import Picture

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
RGBA = np.dstack([RGB, np.full((5, 7), 255, np.uint8)])


def test_arrays_are_taken_as_they_are():
    jnp = pytest.importorskip("jax.numpy")
    for array in (RGB, jnp.asarray(RGB)):
        np.testing.assert_array_equal(as_picture(array).pixels, RGB)
    grey = np.stack([RGB[..., 0]] * 3, axis=-1)
    assert as_picture(grey).pixels.shape == (5, 7, 3)
    assert as_picture(RGB[..., 0]).pixels.shape == (5, 7)


def test_alpha_of_an_array_is_kept_even_if_it_is_opaque():
    found = as_picture(RGBA)
    np.testing.assert_array_equal(found.pixels, RGB)
    np.testing.assert_array_equal(found.alpha, RGBA[..., 3])


@pytest.mark.parametrize(
    ("img", "message"),
    [
        (RGB.astype(np.uint16) * 257, r"got dtype uint16; .*: np.round\(img / 257\)"),
        (RGB / 255, r"got dtype float64; .*: np.round\(255 \* img\)"),
        (RGB.tolist(), r"got dtype int64; values 0 ... 255: img.astype\(np.uint8\)"),
        (RGB > 9, r"got dtype bool; black and white: np.uint8\(255\) \* img"),
        ("a.png", r"got dtype <U5; pass .*of a file: PIL.Image.open"),
        (RGB[..., :1], r"\[H,W,3\], \[H,W\] or \[H,W,4\], got \[5, 7, 1\]; grey: img\[..., 0\]"),
        (RGB[..., :2], r"got \[5, 7, 2\]; grey with alpha: jvrc.Picture"),
        (RGBA.transpose(2, 0, 1), "channels first: img.transpose"),
        (RGB[None], "a batch: pass one image at a time"),
        (RGB[0, 0], r"got \[3\]; pass one image"),
        (RGB[:, :0], r"at least one pixel, got shape \[5, 0, 3\]"),
        (Picture(RGBA), "pixels of a Picture must be .*; pass alpha by itself"),
        (Picture(RGB, icc=None), 'icc of a Picture must be bytes, b"" for none, got NoneType'),
        (Picture(RGB, xmp="<x/>"), "xmp of a Picture must be bytes, .* got str"),
        (Picture(RGB, RGB), r"alpha .* uint8 \[5, 7\] as its pixels, got uint8 \[5, 7, 3\]"),
        (Picture(RGB, RGB[..., 0] / 255), r"alpha .* got float64 \[5, 7\]"),
    ],
)
def test_other_arrays_are_refused_with_rule_value_and_remedy(img, message):
    with pytest.raises(ValueError, match=message):
        as_picture(img)
