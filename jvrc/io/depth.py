"""Samples of more than 8 bits: noticing them, and rounding them to 8.

Pillow reads grey of 16 bits as such, but of colour only the upper byte of each sample.
"""

import sys
from typing import Any

import numpy as np
from PIL import Image

_HEAD = 4096  # bytes at the start of a file in which AVIF, HEIF and JPEG 2000 state the depth
_SWAPPED = ";16B" if sys.byteorder == "little" else ";16L"
# End of a raw mode of Pillow's decoders -> that which reads the other byte of each sample.
_OTHER_BYTE = {";16B": ";16L", ";16L": ";16B", ";16N": _SWAPPED}
_BITS_TAG, _PHOTOMETRIC_TAG = 258, 262  # of TIFF
_SWAPPABLE = ("RGB;16", "RGBA;16")


def bits_of(img: Image.Image) -> int:
    """Return the bits of a sample that the file of an opened image has; 8 if unknown.

    Pillow's image of it may have fewer. The image must not have been loaded yet.

    Raises:
      ValueError: Pillow would read something else.
    """
    if img.mode == "I" and img.format is None:
        return 32  # no file says which of these bits are used
    if img.mode.startswith("I") and img.format != "TIFF":
        return 16
    if img.format == "TIFF":
        return _tiff_depth(img)
    if img.format == "PPM":
        maximum = img.tile[0][3][-1] if img.tile else 255
        return maximum.bit_length() if isinstance(maximum, int) else 8
    if img.format in ("AVIF", "HEIF", "JPEG2000"):
        return _stated_depth(img)
    return 16 if _raw_mode(img).find(";16") >= 0 else 8


def low_bytes(img: Image.Image) -> np.ndarray | None:
    """Return the lower byte of each sample, uint8 [H,W,C], of a file with 16-bit colour.

    The file is read again for it. None if Pillow has no way to: of rare kinds of TIFF, and of
    frames but the first. The image must not have been loaded yet.
    """
    raw = "" if img.tell() else _raw_mode(img)
    if raw == "LA;16B":  # each pixel has four bytes
        return _read_as(img, "RGBA")[..., [1, 1, 1, 3]]
    if raw.startswith(_SWAPPABLE) and raw[-4:] in _OTHER_BYTE:
        return _read_as(img, raw[:-4] + _OTHER_BYTE[raw[-4:]])
    return None


def is_inverted(img: Image.Image) -> bool:
    """Return whether a file has grey of 16 bits with 0 as white, which Pillow takes for black."""
    return img.mode.startswith("I;16") and getattr(img, "tag_v2", {}).get(_PHOTOMETRIC_TAG) == 0


def to_8_bits(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Return round(v / 257), uint8, of samples v = 256 high + low, both uint8."""
    difference = low.astype(np.int16) - high  # v = 257 high + difference
    up, down = difference > 128, difference < -128
    return high + up.astype(np.uint8) - down.astype(np.uint8)


def grey_to_8_bits(samples: np.ndarray, white: int = 2**16 - 1) -> np.ndarray:
    """Return integer samples 0 … white, rounded to uint8 0 … 255.

    Raises:
      ValueError: there are others.
    """
    if samples.size and (samples.min() < 0 or samples.max() > white):
        raise ValueError("samples exceed 16 bits; convert to 8 bits first")
    return ((samples.astype(np.uint32) * 255 + white // 2) // white).astype(np.uint8)


def _read_as(img: Image.Image, raw: str) -> np.ndarray:
    """Return the samples of an opened image that another raw mode makes of its file."""
    position = img.fp.tell()
    img.fp.seek(0)
    again = Image.open(img.fp, formats=[img.format])
    again.tile = [_with_raw_mode(tile, raw) for tile in again.tile]
    samples = np.asarray(again)
    img.fp.seek(position)
    return samples


def _raw_mode(img: Image.Image) -> str:
    """Return the layout of the samples that the decoder of an image reads, "" if unknown."""
    arguments = img.tile[0][3] if getattr(img, "tile", None) else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _with_raw_mode(tile: Any, raw: str) -> Any:
    arguments = tile[3]
    changed = (raw, *arguments[1:]) if isinstance(arguments, tuple) else raw
    return tile._replace(args=changed) if hasattr(tile, "_replace") else (*tile[:3], changed)


def _tiff_depth(img: Image.Image) -> int:
    bits = max(img.tag_v2.get(_BITS_TAG, (8,)))
    if bits > 8 and _raw_mode(img) in ("R", "C"):  # channels one after another
        raise ValueError(f"planar TIFF of {bits} bits without compression; store it interleaved")
    return bits


def _stated_depth(img: Image.Image) -> int:
    """Return what SIZ of JPEG 2000 or the box `pixi` of AVIF and HEIF says; 8 without these."""
    if "bit_depth" in img.info:
        return int(img.info["bit_depth"])
    head = _head_of(img)
    if img.format == "JPEG2000":
        _, marker, rest = head.partition(b"\xff\x4f\xff\x51")
        return (rest[38] & 0x7F) + 1 if marker and len(rest) > 38 else 8
    _, box, rest = head.partition(b"pixi")
    return rest[5] if box and len(rest) > 5 else 8


def _head_of(img: Image.Image) -> bytes:
    """Return the first bytes of an opened image's file, none if it is closed."""
    file = getattr(img, "fp", None)
    if file is None or file.closed:
        return b""
    position = file.tell()
    file.seek(0)
    head = file.read(_HEAD)
    file.seek(position)
    return head
