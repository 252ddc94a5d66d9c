"""Sections 7.3, 8 and 9 of the format: patches, alpha, metadata, for `reference_decoder.py`."""

import zlib
from io import BytesIO
from typing import NamedTuple

import numpy as np
from PIL import Image

ICC, EXIF, XMP = 129, 130, 131  # types of sections
MAX_LENGTH = 2**24


class Metadata(NamedTuple):
    """What a file holds beside samples; b"" where it holds nothing."""

    icc: bytes
    exif: bytes
    xmp: bytes


def read_metadata(others: tuple[tuple[int, bytes], ...]) -> Metadata:
    """Section 9: profile, EXIF and XMP of a file's sections, given as types and payloads."""
    found = {ICC: b"", EXIF: b"", XMP: b""}
    for kind, payload in others:
        if kind in found:
            if found[kind]:
                raise ValueError("damaged: two sections of a type")
            found[kind] = expand(payload)
    return Metadata(*found.values())


def expand(payload: bytes) -> bytes:
    """Section 9: what a payload expands to."""
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(payload, MAX_LENGTH + 1)
    except zlib.error as error:
        raise ValueError("damaged: no zlib stream") from error
    if not 1 <= len(data) <= MAX_LENGTH or not stream.eof or stream.unused_data:
        raise ValueError("damaged: a zlib stream that is empty, too long or does not end")
    return data


def decode_alpha(payload: bytes, rows: int, columns: int) -> np.ndarray:
    """Section 8: the samples of a tile, uint8 `[rows, columns]`."""
    method, data = payload[:1], payload[1:]
    if method == b"\0" and len(data) == 1:
        return np.full((rows, columns), data[0], np.uint8)
    if method == b"\1":
        return decode_vp8l(data, rows, columns)[:, :, 1]
    raise ValueError("damaged: no such method of alpha")


def decode_vp8l(data: bytes, rows: int, columns: int) -> np.ndarray:
    """Section 8: the RGB of a lossless WebP bitstream, uint8 `[rows, columns, 3]`."""
    size = columns - 1 | rows - 1 << 14
    if data[:5] != b"\x2f" + size.to_bytes(4, "little"):
        raise ValueError("damaged: another size")
    body = b"WEBPVP8L" + len(data).to_bytes(4, "little") + data + bytes(len(data) % 2)
    try:
        with Image.open(BytesIO(b"RIFF" + len(body).to_bytes(4, "little") + body)) as img:
            return np.asarray(img.convert("RGB"))
    except OSError as error:
        raise ValueError("damaged: no lossless WebP") from error


def patched_blocks(payload: bytes, h: int, w: int) -> np.ndarray:
    """Section 7.3: which blocks of a tile are patched, bool `[h, w]`."""
    bitmap = payload[: -(-h * w // 8)]
    bits = [byte >> i & 1 for byte in bitmap for i in range(8)]
    if len(bits) < h * w or not any(bits) or any(bits[h * w :]):
        raise ValueError("damaged: other blocks than those of the tile")
    return np.array(bits[: h * w], bool).reshape(h, w)


def put_patch(payload: bytes, pixels: np.ndarray, h: int, w: int) -> None:
    """Section 7.3: overwrite the patched ones of a tile's pixels within the image."""
    found = decode_vp8l(payload[-(-h * w // 8) :], *pixels.shape[:2])
    for row, column in np.argwhere(patched_blocks(payload, h, w)):
        at = slice(64 * row, 64 * row + 64), slice(64 * column, 64 * column + 64)
        pixels[at] = found[at]
