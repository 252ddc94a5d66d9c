"""Lossless WebP: RGB to the bytes of a VP8L bitstream (RFC 9649, section 3) and back.

Of a WebP file, that is the chunk VP8L without the headers of the file and the chunk.
"""

import struct
from io import BytesIO

import numpy as np
from PIL import Image

from jvrc.errors import BitstreamError

MAX_SIDE = 2**14  # pixels
_HEADERS = 20  # bytes: RIFF, size, WEBP, VP8L, size
_SIGNATURE, _HEADER_BYTES = 0x2F, 5
_DAMAGE = (OSError, ValueError, SyntaxError, EOFError)  # Pillow's


def encode(rgb: np.ndarray, quality: int = 100) -> bytes:
    """Return uint8 [h,w,3], of at most 16384 pixels a side, as a VP8L bitstream.

    quality: 0 … 100, how long the encoder searches for a short one.
    """
    buffer, options = BytesIO(), {"lossless": True, "quality": quality, "exact": True}
    Image.fromarray(rgb).save(buffer, "WEBP", method=4, **options)
    data = buffer.getvalue()
    (size,) = struct.unpack_from("<I", data, _HEADERS - 4)
    return data[_HEADERS : _HEADERS + size]


def decode(data: bytes, height: int, width: int) -> np.ndarray:
    """Return the uint8 [h,w,3] of a VP8L bitstream, which must have this size.

    Raises:
      BitstreamError: it is damaged, or has another size, which is checked before it is decoded, or
        one that Pillow has been told to refuse.
    """
    expected = width - 1 | height - 1 << 14  # no alpha, version 0
    header = expected.to_bytes(4, "little") if max(height, width) <= MAX_SIDE else b""
    if data[:_HEADER_BYTES] != bytes([_SIGNATURE]) + header:
        raise BitstreamError(f"damaged stream: no lossless WebP of {height} x {width} pixels")
    padded = data + b"\0" * (len(data) % 2)
    body = b"WEBPVP8L" + struct.pack("<I", len(data)) + padded
    file = BytesIO(b"RIFF" + struct.pack("<I", len(body)) + body)
    try:
        return np.asarray(Image.open(file, formats=["WEBP"]).convert("RGB"))
    except Image.DecompressionBombError as error:
        rule = f"a patch of {height} x {width} pixels exceeds PIL.Image.MAX_IMAGE_PIXELS"
        raise BitstreamError(f"{rule} = {Image.MAX_IMAGE_PIXELS}: set a larger limit") from error
    except _DAMAGE as error:
        raise BitstreamError(f"damaged stream: lossless WebP: {error}") from error
