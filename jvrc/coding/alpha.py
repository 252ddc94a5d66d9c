"""The alpha samples of a tile to bytes and back, without loss (FORMAT.md, section 8)."""

import numpy as np

from jvrc.coding import webp
from jvrc.errors import BitstreamError

_CONSTANT, _WEBP = 0, 1  # methods
_GREEN = 1


def encode(alpha: np.ndarray) -> bytes:
    """Return uint8 [h,w], of at most 16384 pixels a side, as bytes."""
    if np.all(alpha == alpha[0, 0]):
        return bytes([_CONSTANT, alpha[0, 0]])
    return bytes([_WEBP]) + webp.encode(np.repeat(alpha[..., None], 3, axis=2))


def decode(data: bytes, height: int, width: int) -> np.ndarray:
    """Return the uint8 [h,w] that `encode` got.

    Raises:
      BitstreamError: data is damaged, or of another size.
    """
    method, rest = data[:1], data[1:]
    if method == bytes([_WEBP]):
        return np.ascontiguousarray(webp.decode(rest, height, width)[..., _GREEN])
    if method != bytes([_CONSTANT]):
        raise BitstreamError(f"alpha of a method that is not known, {data[:1].hex()}: upgrade jvrc")
    if len(rest) != 1:
        raise BitstreamError(f"damaged stream: constant alpha of {len(rest)} bytes")
    return np.full((height, width), rest[0], np.uint8)
