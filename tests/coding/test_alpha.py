"""Claims about the alpha of a tile as bytes: exact, small, and damage raises BitstreamError."""

import contextlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from jvrc.coding import alpha, webp
from jvrc.errors import BitstreamError

SIZES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)
ARRAYS = hnp.arrays(np.uint8, SIZES, elements=st.integers(0, 255))
DISC = np.hypot(*np.mgrid[-20:20, -30:30]).clip(10, 15).astype(np.uint8) * np.uint8(17)


@given(ARRAYS)
def test_any_alpha_comes_back_exactly(samples):
    data = alpha.encode(samples)
    np.testing.assert_array_equal(alpha.decode(data, *samples.shape), samples)


def test_a_constant_takes_two_bytes_and_a_disc_few():
    assert alpha.encode(np.full((1024, 1024), 77, np.uint8)) == bytes([0, 77])
    assert len(alpha.encode(DISC)) < DISC.size / 8


def test_the_bytes_are_those_of_a_webp_file_without_its_headers():
    data = alpha.encode(DISC)
    assert data[0] == 1
    bitstream = data[1:] + b"\0" * (len(data) % 2 == 0)
    size = (len(data) - 1).to_bytes(4, "little")
    body = b"WEBPVP8L" + size + bitstream
    file = BytesIO(b"RIFF" + len(body).to_bytes(4, "little") + body)
    with Image.open(file) as img:
        np.testing.assert_array_equal(np.asarray(img)[..., 1], DISC)


@given(st.binary(max_size=60), st.integers(1, 9), st.integers(1, 9))
def test_foreign_bytes_raise_or_are_of_the_size_asked_for(data, height, width):
    for first in (b"", b"\0", b"\1"):
        with contextlib.suppress(BitstreamError):
            assert alpha.decode(first + data, height, width).shape == (height, width)


@settings(max_examples=50)
@given(st.data())
def test_damaged_bytes_raise_or_decode_to_the_size(data):
    encoded = bytearray(alpha.encode(DISC))
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(BitstreamError):
        assert alpha.decode(bytes(encoded), *DISC.shape).shape == DISC.shape


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "a method that is not known"),
        (b"\2\0", "a method that is not known, 02: upgrade"),
        (b"\0", "constant alpha of 0 bytes"),
        (b"\0\1\1", "constant alpha of 2 bytes"),
        (alpha.encode(DISC.T), "no lossless WebP of 40 x 60 pixels"),
        (alpha.encode(DISC)[:20], "lossless WebP"),
        (b"\1", "no lossless WebP"),
    ],
)
def test_what_breaks_a_rule_is_refused(data, message):
    with pytest.raises(BitstreamError, match=message):
        alpha.decode(data, *DISC.shape)


def test_a_bitstream_with_alpha_of_its_own_is_refused():
    file = BytesIO()
    rgba = np.dstack([DISC] * 4)
    Image.fromarray(rgba).save(file, "WEBP", lossless=True, exact=True)
    data = file.getvalue()
    bitstream = data[data.index(b"VP8L") + 8 :]
    with pytest.raises(BitstreamError, match="no lossless WebP"):
        webp.decode(bitstream, *DISC.shape)


def test_a_claimed_size_is_checked_before_anything_is_decoded(monkeypatch):
    monkeypatch.setattr(Image, "open", None)
    with pytest.raises(BitstreamError, match="16384 x 16385"):
        webp.decode(webp.encode(np.zeros((1, 1, 3), np.uint8)), 16384, 16385)


def test_what_pillow_was_told_to_refuse_is_said_to_be_so(monkeypatch):
    data = webp.encode(np.zeros((8, 8, 3), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(BitstreamError, match="exceeds PIL.Image.MAX_IMAGE_PIXELS = 10: set"):
        webp.decode(data, 8, 8)
