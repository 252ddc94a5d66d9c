"""The sections of a file, and what is in those of tiles (FORMAT.md, sections 1.2 and 1.3).

A section is a type, a length, so many bytes and a checksum over these and the file's header.
"""

import zlib
from typing import NamedTuple

from jvrc.coding.container import MAX_LANES_LOG2, Stream, Tile, lanes_of
from jvrc.coding.varint import read_varint, write_varint
from jvrc.errors import BitstreamError

INDEX, TILE = 1, 2
CRC_BYTES = 4
_LANES, _ADAPTED = 0x0F, 0x10  # of a tile's second byte


class Found(NamedTuple):
    """A section of a file, its checksum verified."""

    kind: int
    payload: memoryview
    end: int  # offset behind it


def write_section(kind: int, payload: bytes, header_crc: int) -> bytes:
    """Return the bytes of a section; header_crc: CRC-32 of the file's header."""
    body = bytes([kind]) + write_varint(len(payload)) + payload
    return body + zlib.crc32(body, header_crc).to_bytes(CRC_BYTES, "little")


def read_section(data: memoryview, offset: int, header_crc: int) -> Found:
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
    return Found(data[offset], data[begin : begin + length], end)


def write_tile(number: int, tile: Tile) -> bytes:
    """Return the payload of a tile's section; ValueError if a field can't be stored."""
    z, y = tile.z, tile.y
    parts = (
        write_varint(number),
        bytes([_lanes_log2(z) | _ADAPTED * tile.scale_adapted]),
        write_varint(len(z.words)),
        write_varint(len(z.escapes)),
        bytes([_lanes_log2(y)]),
        write_varint(len(y.words)),
        z.words,
        z.escapes,
        y.words,
        y.escapes,
    )
    return b"".join(parts)


def read_tile(payload: memoryview, number: int) -> Tile:
    """Return the tile that a section's payload holds.

    Raises:
      BitstreamError: it breaks a rule, or is another tile than this one.
    """
    stored, at = read_varint(payload, 0)
    if stored != number:
        raise BitstreamError(f"damaged stream: tile {stored} in its place")
    flags, at = _read_byte(payload, at)
    if flags & ~(_LANES | _ADAPTED):
        raise BitstreamError(f"damaged stream: unknown flags {flags:#04x}")
    z_words, at = read_varint(payload, at)
    z_escapes, at = read_varint(payload, at)
    y_lanes_log2, at = _read_byte(payload, at)
    y_words, at = read_varint(payload, at)
    if at + z_words + z_escapes + y_words > len(payload):
        raise BitstreamError("damaged stream: streams longer than their section")
    parts = []
    for length in (z_words, z_escapes, y_words, len(payload)):
        parts.append(bytes(payload[at : at + length]))
        at += length
    z = Stream(words=parts[0], escapes=parts[1], lanes=lanes_of(flags & _LANES))
    y = Stream(words=parts[2], escapes=parts[3], lanes=lanes_of(y_lanes_log2))
    return Tile(scale_adapted=bool(flags & _ADAPTED), z=z, y=y)


def _read_byte(payload: memoryview, at: int) -> tuple[int, int]:
    if at >= len(payload):
        raise BitstreamError("damaged stream: a tile's section is too short")
    return payload[at], at + 1


def _lanes_log2(stream: Stream) -> int:
    lanes_log2 = stream.lanes.bit_length() - 1
    if stream.lanes != 1 << max(lanes_log2, 0) or lanes_log2 > MAX_LANES_LOG2:
        limit = 1 << MAX_LANES_LOG2
        raise ValueError(f"lanes must be a power of two in 1 ... {limit}, got {stream.lanes}")
    return lanes_log2
