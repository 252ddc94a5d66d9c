"""Reading files of format version 1 (FORMAT.md, section 1.4); jvrc writes none any more."""

import zlib
from typing import NamedTuple

from jvrc.coding.container import (
    MODEL_ID,
    Container,
    Stream,
    Tile,
    check_dimensions,
    check_length,
    ends_within_header,
    lanes_of,
)
from jvrc.coding.varint import read_varint, unzigzag
from jvrc.errors import BitstreamError

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
    model_id = data[MODEL_ID].hex()
    height, offset = read_varint(data, MODEL_ID.stop)
    width, offset = read_varint(data, offset)
    number, offset = read_varint(data, offset)
    z, offset = _read_sizes(data, offset)
    y, offset = _read_sizes(data, offset)
    lengths = (z.words, z.escapes, y.words, y.escapes)
    check_length(len(data), offset + sum(lengths) + _CRC_BYTES)
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
        raise ends_within_header(len(data))
    words, end = read_varint(data, offset + 1)
    escapes, end = read_varint(data, end)
    return _StreamSizes(data[offset], words, escapes), end


def _check_crc(data: bytes) -> None:
    stored = int.from_bytes(data[-_CRC_BYTES:], "little")
    actual = zlib.crc32(memoryview(data)[:-_CRC_BYTES])
    if stored != actual:
        raise BitstreamError(f"damaged stream: checksum is {actual:08x}, should be {stored:08x}")
