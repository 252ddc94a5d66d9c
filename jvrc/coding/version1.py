"""Reading files of format version 1 (FORMAT.md, section 1.4); jvrc writes none any more."""

import zlib
from typing import NamedTuple

from jvrc.coding.container import Container, Stream, Tile, check_dimensions, lanes_of
from jvrc.coding.varint import read_varint, unzigzag
from jvrc.errors import BitstreamError

_MODEL_ID_START, _MODEL_ID_END = 5, 9
_CRC_BYTES = 4


class _StreamSizes(NamedTuple):
    """A stream's description in the header."""

    lanes_log2: int
    words: int  # bytes
    escapes: int  # bytes


def read(data: bytes, *, max_pixels: int) -> Container:
    """Return the contents of a file whose magic and version have been checked.

    Raises:
      BitstreamError: as `jvrc.coding.packing.unpack`.
    """
    model_id = data[_MODEL_ID_START:_MODEL_ID_END].hex()
    height, offset = read_varint(data, _MODEL_ID_END)
    width, offset = read_varint(data, offset)
    number, offset = read_varint(data, offset)
    z, offset = _read_sizes(data, offset)
    y, offset = _read_sizes(data, offset)
    lengths = (z.words, z.escapes, y.words, y.escapes)
    _check_length(data, offset + sum(lengths) + _CRC_BYTES)
    _check_crc(data)
    check_dimensions(height, width, max_pixels)
    parts = []
    for length in lengths:
        parts.append(data[offset : offset + length])
        offset += length
    tile = Tile(
        scale_adapted=bool(number & 1),
        z=Stream(words=parts[0], escapes=parts[1], lanes=lanes_of(z.lanes_log2)),
        y=Stream(words=parts[2], escapes=parts[3], lanes=lanes_of(y.lanes_log2)),
    )
    return Container(model_id, height, width, unzigzag(number >> 1), (tile,), tile_side=0)


def _read_sizes(data: bytes, offset: int) -> tuple[_StreamSizes, int]:
    if offset >= len(data):
        raise BitstreamError(
            f"truncated stream: it ends within the header, after {len(data)} bytes"
        )
    words, end = read_varint(data, offset + 1)
    escapes, end = read_varint(data, end)
    return _StreamSizes(data[offset], words, escapes), end


def _check_length(data: bytes, expected: int) -> None:
    if len(data) < expected:
        raise BitstreamError(f"truncated stream: {len(data)} bytes of {expected}")
    if len(data) > expected:
        raise BitstreamError(f"left-over bytes: the stream ends at {expected} of {len(data)} bytes")


def _check_crc(data: bytes) -> None:
    stored = int.from_bytes(data[-_CRC_BYTES:], "little")
    actual = zlib.crc32(memoryview(data)[:-_CRC_BYTES])
    if stored != actual:
        raise BitstreamError(f"damaged stream: checksum is {actual:08x}, should be {stored:08x}")
