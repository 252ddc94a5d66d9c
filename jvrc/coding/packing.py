"""Containers to bytes and back: files of format version 2 or 3 are written, 1 to 3 are read.

Files of a released version stay readable: any change of these bytes is a new format version.

A file of version 2 or 3 is a header and sections: those of other purposes, an index of the tiles if
there are several, and the tiles, the last of which ends the file (FORMAT.md, section 1).
"""

import zlib
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from jvrc.coding import version1
from jvrc.coding.container import (
    GREY,
    MAX_PIXELS,
    MAX_TILE_SIDE,
    MODEL_ID,
    REFINEMENT_BYTES,
    RGB,
    SKIPPABLE,
    Container,
    Section,
    Tile,
    check_dimensions,
    check_length,
    ends_within_header,
)
from jvrc.coding.sections import INDEX, TILE, ReadSection, read_section, write_section
from jvrc.coding.tile_sections import read_tile, unknown, write_tile
from jvrc.coding.varint import read_varint, unzigzag, write_varint, zigzag
from jvrc.errors import BitstreamError

MAGIC = b"JVRC"
VERSION = 3  # the newest


class _Header(NamedTuple):
    """The fields of a header, unchecked."""

    container: Container  # without tiles and sections
    crc: int  # CRC-32 of its bytes
    end: int  # offset behind it


class TilesOfFile(Sequence[Tile]):
    """The tiles of a file of version 2 or 3, each read and checked when it is asked for."""

    def __init__(self, data: memoryview, header: _Header, ends: list[int]) -> None:
        """ends: offsets of the tiles' sections, and of the end of the last one."""
        self._data, self._header, self._ends = data, header, ends

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, number: int) -> Tile:
        """Return a tile; BitstreamError, which names it, if it is damaged."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        begin, end = self._ends[number : number + 2]
        try:
            refines = bool(self._header.container.refinement_id)
            return read_tile(self._data[:end], begin, number, self._header.crc, refines=refines)
        except BitstreamError as error:
            raise BitstreamError(f"{self._header.container.name_of(number)}: {error}") from error


def pack(container: Container) -> bytes:
    """Return the bytes of a file, of version 2 if it names no refinement, else of version 3.

    Raises:
      ValueError: a field can't be stored.
    """
    _check_fields(container)
    header = _write_header(container)
    crc = zlib.crc32(header)
    others = [write_section(kind, payload, crc) for kind, payload in container.sections]
    tiles = [write_tile(number, tile, crc) for number, tile in enumerate(container.tiles)]
    index = b"".join(write_varint(len(tile)) for tile in tiles)
    only = container.tiles[0]
    indexed = len(tiles) > 1 or only.patch or only.alpha
    indices = [write_section(INDEX, index, crc)] if indexed else []
    return b"".join([header, *others, *indices, *tiles])


def unpack(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Container:
    """Return the contents of a file, of which every byte has been checked.

    Allocates no more than a copy of `data`: the sizes that it claims are checked first.

    Raises:
      BitstreamError: the bytes are no intact file of a known version, or the image, padded to
        whole blocks of 64x64 pixels, has more than `max_pixels` pixels.
    """
    container = unpack_lazily(data, max_pixels=max_pixels)
    return container._replace(tiles=tuple(container.tiles))


def unpack_lazily(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Container:
    """Return the contents of a file, of which each tile is read and checked when asked for.

    Raises:
      BitstreamError: as in `unpack`, but for damage within a tile, of which its access raises it.
    """
    data = _as_bytes(data)
    version = _check_kind(data)
    if version == 1:
        return version1.read(data, max_pixels=max_pixels)
    view, header = memoryview(data), _read_header(data)
    sections, first, at = _read_until_tiles(view, header)
    _check_header(header, max_pixels)
    count = header.container.grid.count
    if first.kind == INDEX:
        ends = _read_index(first, count, len(data))
        if count == 1 and read_section(view, ends[0], header.crc).end == ends[1]:
            raise BitstreamError("damaged stream: 1 tiles, and an index, but one section")
    elif count == 1:
        ends = [at, first.end]
        check_length(len(data), first.end)
    else:
        raise BitstreamError(f"damaged stream: one tile without an index, of {count}")
    tiles = TilesOfFile(view, header, ends)
    return header.container._replace(tiles=tiles, sections=tuple(sections))


def _read_until_tiles(data: memoryview, header: _Header) -> tuple[list[Section], ReadSection, int]:
    """Return (sections that a decoder may skip, the first other one, its offset)."""
    sections, at = [], header.end
    while (found := read_section(data, at, header.crc)).kind & SKIPPABLE:
        sections.append(Section(found.kind, bytes(found.payload)))
        at = found.end
    if found.kind not in (INDEX, TILE):
        raise BitstreamError(unknown(found.kind))
    return sections, found, at


def _read_index(index: ReadSection, count: int, size: int) -> list[int]:
    """Return the offsets of the tiles' sections, and that of the end of the file."""
    if count > len(index.payload):
        raise BitstreamError(
            f"damaged stream: {count} tiles, and an index of {len(index.payload)} bytes"
        )
    lengths, at = [], 0
    for _ in range(count):
        length, at = read_varint(index.payload, at)
        lengths.append(length)
    if at != len(index.payload):
        raise BitstreamError(f"damaged stream: an index of more than {count} tiles")
    ends = list(accumulate(lengths, initial=index.end))
    check_length(size, ends[-1])
    return ends


def _write_header(container: Container) -> bytes:
    parts = (
        MAGIC,
        bytes([container.version]),
        bytes.fromhex(container.model_id),
        write_varint(container.height),
        write_varint(container.width),
        write_varint(zigzag(container.qstep_code)),
        bytes([container.channels, container.tile_side]),
        bytes.fromhex(container.refinement_id),
    )
    return b"".join(parts)


def _read_header(data: bytes) -> _Header:
    model_id = data[MODEL_ID].hex()
    height, at = read_varint(data, MODEL_ID.stop)
    width, at = read_varint(data, at)
    number, at = read_varint(data, at)
    if at + 2 > len(data):
        raise ends_within_header(len(data))
    channels, tile_side = data[at], data[at + 1]
    end = at + 2 + (REFINEMENT_BYTES if data[len(MAGIC)] >= 3 else 0)
    if end > len(data):
        raise ends_within_header(len(data))
    refinement_id, qstep_code = data[at + 2 : end].hex(), unzigzag(number)
    container = Container(model_id, height, width, qstep_code, (), tile_side, (), channels)
    container = container._replace(refinement_id=refinement_id)
    return _Header(container, zlib.crc32(data[:end]), end)


def _check_header(header: _Header, max_pixels: int) -> None:
    """Raise BitstreamError for a header that no encoder of this version writes."""
    container = header.container
    check_dimensions(container.height, container.width, max_pixels)
    if container.channels not in (GREY, RGB):
        raise BitstreamError(
            f"the stream has {container.channels} colour channels, this library reads {GREY} "
            f"and {RGB}: upgrade jvrc"
        )
    if not 1 <= container.tile_side <= MAX_TILE_SIDE:
        raise BitstreamError(f"damaged stream: tiles of {container.tile_side} blocks a side")


def _check_fields(container: Container) -> None:
    """Raise ValueError for a container that would not come back as it is."""
    model_id, height, width, _, tiles, tile_side, sections, channels, refinement_id = container
    _check_id("model_id", model_id)
    if refinement_id:
        _check_id("refinement_id", refinement_id)
    elif any(tile.refined for tile in tiles):
        raise ValueError("refinement_id must be given: tiles are refined")
    if height < 1 or width < 1:
        raise ValueError(f"height and width must be at least 1, got {height} and {width}")
    if not 1 <= tile_side <= MAX_TILE_SIDE:
        raise ValueError(f"tile_side must be in 1 ... {MAX_TILE_SIDE}, got {tile_side}")
    if channels not in (GREY, RGB):
        raise ValueError(f"channels must be {GREY} or {RGB}, got {channels}")
    if len(tiles) != container.grid.count:
        raise ValueError(f"tiles must be {container.grid.count}, got {len(tiles)}")
    if not all(SKIPPABLE <= kind <= 0xFF for kind, _ in sections):
        raise ValueError("sections must be of types 128 ... 255: others can't be skipped")


def _check_id(name: str, value: str) -> None:
    try:
        raw = bytes.fromhex(value)
    except ValueError:
        raw = b""
    if len(raw) != 4 or raw.hex() != value:
        raise ValueError(f"{name} must be eight lower-case hex digits, got {value!r}")


def _as_bytes(data: bytes) -> bytes:
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"data must be bytes, got {type(data).__name__}; read the file with 'rb'")
    return bytes(data)


def _check_kind(data: bytes) -> int:
    """Return the version of the format; BitstreamError if it is none that is known."""
    if not data:
        raise BitstreamError("empty stream: no bytes at all")
    if not data.startswith(MAGIC):
        if MAGIC.startswith(data):
            raise BitstreamError(f"truncated stream: only {len(data)} bytes")
        raise BitstreamError(f"not a jvrc stream: it starts with {data[:4]!r}, not with {MAGIC!r}")
    if len(data) < MODEL_ID.stop:
        raise BitstreamError(f"truncated stream: only {len(data)} bytes")
    version = data[len(MAGIC)]
    if version > VERSION:
        raise BitstreamError(
            f"the stream has format version {version}, this library reads up to {VERSION}: "
            "upgrade jvrc"
        )
    if version < 1:
        raise BitstreamError(f"damaged stream: there is no format version {version}")
    return version
