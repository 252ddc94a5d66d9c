"""The sections of a tile (FORMAT.md, section 1.3): its streams, and patch and alpha if any.

They follow one another in the order of their types; the index counts their bytes together.
"""

from jvrc.coding.container import MAX_LANES_LOG2, SKIPPABLE, Stream, Tile, lanes_of
from jvrc.coding.sections import ALPHA, INDEX, PATCH, TILE, read_section, write_section
from jvrc.coding.varint import read_varint, write_varint
from jvrc.errors import BitstreamError

_LANES, _ADAPTED, _REFINED = 0x0F, 0x10, 0x20  # of the byte behind a tile's number


def write_tile(number: int, tile: Tile, header_crc: int) -> bytes:
    """Return the bytes of a tile's sections; ValueError if a field can't be stored."""
    parts = [write_section(TILE, _write_streams(number, tile), header_crc)]
    for kind, payload in ((PATCH, tile.patch), (ALPHA, tile.alpha)):
        if payload:
            parts.append(write_section(kind, write_varint(number) + payload, header_crc))
    return b"".join(parts)


def read_tile(data: memoryview, begin: int, number: int, header_crc: int, *, refines: bool) -> Tile:
    """Return the tile whose sections begin at a byte of the file and go to its end.

    refines: whether the file names a refinement, by which tiles may be coded.

    Raises:
      BitstreamError: a section is damaged, not of this tile or not one of a tile.
    """
    found = read_section(data, begin, header_crc)
    if found.kind != TILE:
        raise BitstreamError(unknown(found.kind))
    tile, last = _read_streams(found.payload, number, refines), TILE
    while found.end < len(data):
        if data[found.end] not in (PATCH, ALPHA) or data[found.end] <= last:
            kind, end, size = data[found.end], found.end, len(data)
            raise BitstreamError(f"left-over bytes at {end} of {size} bytes: {unknown(kind)}")
        found = read_section(data, found.end, header_crc)
        last = found.kind
        payload = bytes(found.payload[_after_number(found.payload, number) :])
        if not payload:
            raise BitstreamError(f"damaged stream: an empty section of type {found.kind}")
        tile = tile._replace(**{"patch" if last == PATCH else "alpha": payload})
    return tile


def unknown(kind: int) -> str:
    """Return the message for a section of a type that does not belong among those of tiles."""
    if kind in (0, INDEX, TILE, PATCH, ALPHA) or kind & SKIPPABLE:
        return f"damaged stream: section of type {kind} out of its place"
    return f"the stream has a section of type {kind}, which this library can't decode: upgrade jvrc"


def _after_number(payload: memoryview, number: int) -> int:
    """Return the offset behind the number that begins a tile's section, if it is that tile's."""
    stored, at = read_varint(payload, 0)
    if stored != number:
        raise BitstreamError(f"damaged stream: tile {stored} in its place")
    return at


def _write_streams(number: int, tile: Tile) -> bytes:
    z, y = tile.z, tile.y
    parts = (
        write_varint(number),
        bytes([_lanes_log2(z) | _ADAPTED * tile.scale_adapted | _REFINED * tile.refined]),
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


def _read_streams(payload: memoryview, number: int, refines: bool) -> Tile:
    at = _after_number(payload, number)
    flags, at = _read_byte(payload, at)
    if flags & ~(_LANES | _ADAPTED | _REFINED * refines):
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
    return Tile(bool(flags & _ADAPTED), z, y, refined=bool(flags & _REFINED))


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
