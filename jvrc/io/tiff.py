"""TIFF and BigTIFF with samples that lie in the file as they are: read and written headers.

[1] Adobe 1992, "TIFF Revision 6.0". [2] "The BigTIFF File Format", Aware Systems 2007.
"""

import math
import struct
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from jvrc.io.metadata import DESCRIPTIVE, EXIF_IFD, GPS_IFD, IPTC_TAG

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_OFFSETS, _SAMPLES, _ROWS, _COUNTS, _PLANAR, _EXTRA = 273, 277, 278, 279, 284, 338
_ORIENTATION, _PREDICTOR, _TILE_WIDTH = 274, 317, 322
_XMP, _ICC = 700, 34675
_DESCRIBING = {EXIF_IFD, GPS_IFD, IPTC_TAG, *DESCRIPTIVE}
_SHORT, _LONG, _LONG8 = 3, 4, 16  # types of fields; 1 and 7 are bytes
_FORMATS = {1: "B", 7: "B", _SHORT: "H", _LONG: "I", _LONG8: "Q"}
_READ = {
    *(_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _OFFSETS, _SAMPLES, _COUNTS, _PLANAR),
    *(_EXTRA, _ORIENTATION, _PREDICTOR, _TILE_WIDTH, _XMP, _ICC),
}
_GREY, _RGB, _UNASSOCIATED = 1, 2, 2
_MOST_ENTRIES, _MOST_VALUES, _MOST_OFFSET = 2**12, 2**24, 2**62
_CLASSIC_BYTES = 2**32 - 2**16  # of samples, beyond which the file becomes a BigTIFF


class Plain(NamedTuple):
    """The first page of a file, whose samples lie in it as they are."""

    offset: int  # of the samples, in bytes
    shape: tuple[int, ...]  # [h,w,3], [h,w,4] or [h,w]
    icc: bytes  # ICC profile
    xmp: bytes
    described: bool  # by EXIF, IPTC or tags as of an artist
    pages: bool  # whether there are more


def find_samples(path: Path) -> Plain | None:
    """Return where the samples of a file's first page lie; None if they are not plain.

    Plain: uncompressed, 8 bits, upright, RGB, RGB with unassociated alpha or grey, in strips that
    follow one another. What is damaged is not plain either.

    Raises:
      OSError: the file can't be opened.
    """
    with path.open("rb") as file:
        try:
            tags, names, following = _read_directory(file)
            found = _plain(tags)
        except (struct.error, LookupError, OverflowError, ValueError, OSError):
            return None
    described = not names.isdisjoint(_DESCRIBING)
    return found and found._replace(described=described, pages=following != 0)


def header(shape: tuple[int, ...]) -> bytes:
    """Return the bytes before the samples of an image, uint8 [h,w,3], [h,w,4] or [h,w]."""
    height, width, channels = (*shape, 1)[:3]
    size = math.prod(shape)
    big = size > _CLASSIC_BYTES
    offset_type = _LONG8 if big else _LONG
    entries = [
        (_WIDTH, _LONG, [width]),
        (_HEIGHT, _LONG, [height]),
        (_BITS, _SHORT, [8] * channels),
        (_COMPRESSION, _SHORT, [1]),
        (_PHOTOMETRIC, _SHORT, [_GREY if channels == 1 else _RGB]),
        (_OFFSETS, offset_type, [0]),
        (_SAMPLES, _SHORT, [channels]),
        (_ROWS, _LONG, [height]),
        (_COUNTS, offset_type, [size]),
        (_PLANAR, _SHORT, [1]),
    ]
    if channels == 4:
        entries.append((_EXTRA, _SHORT, [_UNASSOCIATED]))
    return _with_directory(entries, big)


def _with_directory(entries: list[tuple[int, int, list[int]]], big: bool) -> bytes:
    """Return header and directory; the samples begin behind them."""
    entry, count, room = (20, "<Q", 8) if big else (12, "<H", 4)
    start = 16 if big else 8
    begin = start + struct.calcsize(count) + entry * len(entries) + room
    extra, directory = b"", struct.pack(count, len(entries))
    long_values = sum(
        len(v) * struct.calcsize(_FORMATS[t]) for _, t, v in entries if _size(t, v) > room
    )
    samples = begin + long_values + long_values % 2
    for tag, kind, values in entries:
        values = [samples] if tag == _OFFSETS else values
        data = struct.pack(f"<{len(values)}{_FORMATS[kind]}", *values)
        if len(data) > room:
            place = begin + len(extra)
            extra += data
            data = struct.pack("<Q" if big else "<I", place)
        directory += struct.pack("<HHQ" if big else "<HHI", tag, kind, len(values))
        directory += data.ljust(room, b"\0")
    first = (
        struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16) if big else struct.pack("<2sHI", b"II", 42, 8)
    )
    return (first + directory + b"\0" * room + extra).ljust(samples, b"\0")


def _size(kind: int, values: list[int]) -> int:
    return len(values) * struct.calcsize(_FORMATS[kind])


def _read_directory(file: IO[bytes]) -> tuple[dict[int, np.ndarray], set[int], int]:
    """Return of the first directory (values of tags in _READ, all tags, the next one's place)."""
    order = {b"II": "<", b"MM": ">"}[file.read(2)]
    (magic,) = struct.unpack(order + "H", file.read(2))
    big = {42: False, 43: True}[magic]
    if big:
        file.seek(8)
    word, size = ("Q", 8) if big else ("I", 4)
    (place,) = struct.unpack(order + word, file.read(size))
    file.seek(place)
    counter = "Q" if big else "H"
    (count,) = struct.unpack(order + counter, file.read(struct.calcsize(counter)))
    entries = [file.read(12 + 8 * big) for _ in range(min(count, _MOST_ENTRIES))]
    (following,) = struct.unpack(order + word, file.read(size))
    found, names = {}, set()
    for entry in entries:
        tag, kind, number = struct.unpack_from(order + "HH" + word, entry)
        if tag in _READ and tag not in names and kind in _FORMATS and number <= _MOST_VALUES:
            layout = np.dtype(order + _FORMATS[kind]), number
            found[tag] = _values(file, order + word, layout, entry[4 + size :])
        names.add(tag)
    return found, names, following


def _values(file: IO[bytes], offset: str, layout: tuple[np.dtype, int], room: bytes) -> np.ndarray:
    kind, number = layout
    size = kind.itemsize * number
    if size > len(room):
        file.seek(*struct.unpack(offset, room))
        room = file.read(size)
    return np.frombuffer(room, kind, number)


def _plain(tags: dict[int, np.ndarray]) -> Plain | None:
    """Return where the samples of these tags lie, None if they are not plain.

    Raises:
      LookupError, ValueError, OverflowError: the tags are damaged.
    """
    height, width = (int(tags[tag][0]) for tag in (_HEIGHT, _WIDTH))
    channels = int(tags.get(_SAMPLES, [1])[0])
    kind = {1: _GREY, 3: _RGB, 4: _RGB}.get(channels)
    usual = {
        _BITS: ([8] * channels, [1]),
        _COMPRESSION: ([1], [1]),
        _PHOTOMETRIC: ([kind], [-1]),
        _PLANAR: ([1], [1]),
        _ORIENTATION: ([1], [1]),
        _PREDICTOR: ([1], [1]),
        _EXTRA: ([_UNASSOCIATED] if channels == 4 else [], []),
    }
    if any(
        not np.array_equal(tags.get(tag, default), wanted)
        for tag, (wanted, default) in usual.items()
    ):
        return None
    offsets, counts = tags[_OFFSETS], tags[_COUNTS]
    if not len(offsets) or len(offsets) != len(counts) or _TILE_WIDTH in tags:
        return None
    if max(offsets.max(), counts.max()) > _MOST_OFFSET:
        return None
    begins = offsets.astype(np.int64)
    ends, size = begins + counts.astype(np.int64), height * width * channels
    contiguous = np.array_equal(begins[1:], ends[:-1])
    if not size or not contiguous or int(ends[-1] - begins[0]) != size:
        return None
    shape = (height, width) if channels == 1 else (height, width, channels)
    icc, xmp = (_bytes(tags, tag) for tag in (_ICC, _XMP))
    return Plain(int(begins[0]), shape, icc, xmp, described=False, pages=False)


def _bytes(tags: dict[int, np.ndarray], tag: int) -> bytes:
    values = tags.get(tag, np.empty(0, np.uint8))
    if values.dtype != np.uint8:
        raise ValueError(f"tag {tag} must hold bytes")
    return values.tobytes()
