"""The sections of a file (FORMAT.md, section 1.2).

A section is a type, a length, so many bytes and a checksum over these and the file's header.
"""

import zlib
from typing import NamedTuple

from jvrc.coding.varint import read_varint, write_varint
from jvrc.errors import BitstreamError

INDEX, TILE, PATCH, ALPHA = 1, 2, 3, 5
CRC_BYTES = 4


class ReadSection(NamedTuple):
    """A section of a file, its checksum verified."""

    kind: int
    payload: memoryview
    end: int  # offset behind it


def write_section(kind: int, payload: bytes, header_crc: int) -> bytes:
    """Return the bytes of a section; header_crc: CRC-32 of the file's header."""
    body = bytes([kind]) + write_varint(len(payload)) + payload
    return body + zlib.crc32(body, header_crc).to_bytes(CRC_BYTES, "little")


def read_section(data: memoryview, offset: int, header_crc: int) -> ReadSection:
    """Return the section that begins at a byte of the file.

    Raises:
      BitstreamError: it is cut off or damaged.
    """
    if offset >= len(data):
        raise BitstreamError(f"truncated stream: no section behind its {len(data)} bytes")
    length, begin = read_varint(data, offset + 1)
    end = begin + length + CRC_BYTES
    if end > len(data):
        raise BitstreamError(f"truncated stream: {len(data)} bytes of at least {end}")
    stored = int.from_bytes(data[end - CRC_BYTES : end], "little")
    actual = zlib.crc32(data[offset : end - CRC_BYTES], header_crc)
    if stored != actual:
        raise BitstreamError(
            f"damaged stream: checksum of the section at byte {offset} is {actual:08x}, "
            f"should be {stored:08x}"
        )
    return ReadSection(data[offset], data[begin : begin + length], end)
