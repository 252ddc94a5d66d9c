"""ICC profile, EXIF and XMP to sections of a file and back (FORMAT.md, section 9)."""

import zlib
from collections.abc import Iterable

from jvrc.coding.container import Section
from jvrc.errors import BitstreamError
from jvrc.io.picture import MAX_METADATA

ICC, EXIF, XMP, THUMBNAIL = 129, 130, 131, 132  # types of sections
SECTION_NAMES = {ICC: "ICC profile", EXIF: "EXIF", XMP: "XMP", THUMBNAIL: "thumbnail"}


def write_metadata(icc: bytes, exif: bytes, xmp: bytes) -> tuple[Section, ...]:
    """Return a section for each of the three that is not empty.

    Raises:
      ValueError: one is longer than 2**24 bytes.
    """
    found = {ICC: icc, EXIF: exif, XMP: xmp}
    for kind, data in found.items():
        if len(data) > MAX_METADATA:
            raise ValueError(
                f"{SECTION_NAMES[kind]} must have at most {MAX_METADATA} bytes, got {len(data)}"
            )
    return tuple(Section(kind, zlib.compress(data, 9)) for kind, data in found.items() if data)


def readable_metadata(sections: Iterable[Section]) -> tuple[tuple[bytes, bytes, bytes], list[str]]:
    """Return the ICC profile, EXIF and XMP of a file's sections, and a line for each that is lost.

    b"" stands for what a file does not have, and for what is damaged, there twice, or expands to
    more than 2**24 bytes: the image is worth more than its metadata, so nothing is raised.
    """
    sections, found, lost = list(sections), [], []
    for kind in (ICC, EXIF, XMP):
        try:
            found.append(_read(kind, sections))
        except BitstreamError as error:
            found.append(b"")
            lost.append(f"{SECTION_NAMES[kind]} is left out: {error}")
    return (found[0], found[1], found[2]), lost


def _read(kind: int, sections: Iterable[Section]) -> bytes:
    payloads = [section.payload for section in sections if section.kind == kind]
    if len(payloads) > 1:
        raise BitstreamError(f"damaged stream: a second section with {SECTION_NAMES[kind]}")
    return _expand(payloads[0], SECTION_NAMES[kind]) if payloads else b""


def _expand(payload: bytes, name: str) -> bytes:
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(payload, MAX_METADATA + 1)
    except zlib.error as error:
        raise BitstreamError(f"damaged stream: {name}: {error}") from error
    if len(data) > MAX_METADATA:
        raise BitstreamError(f"damaged stream: {name} of more than {MAX_METADATA} bytes")
    if not data or not stream.eof or stream.unused_data:
        raise BitstreamError(f"damaged stream: {name} does not end where its section does")
    return data
