"""What belongs to an image that Pillow has opened beside its samples: profile, EXIF, XMP."""

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from PIL import Image

from jvrc.io.picture import MAX_METADATA

ORIENTATION = 0x0112
PREFIX = b"Exif\x00\x00"  # before the TIFF structure, in JPEG and in Pillow
BYTE_ORDERS = {b"II*\x00": "little", b"MM\x00*": "big"}
EXIF_IFD, GPS_IFD = 0x8769, 0x8825
# Tags of an image, not of how a TIFF file stores it: description, make, model, resolution,
# software, date, artist, host, rating, copyright, and Windows' title to subject.
DESCRIPTIVE = (
    *(0x010E, 0x010F, 0x0110, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x013C, 0x4746),
    *(0x8298, 0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F),
)
_XMP_ORIENTATION = re.compile(rb'(tiff:Orientation(?:="|>))([2-8])')
_IPTC = 0x0404  # of the Photoshop resources in a JPEG
IPTC_TAG, _IPTC_NOTE = 33723, "Raw profile type iptc"  # of a TIFF, of a PNG
_DAMAGE = (OSError, SyntaxError, ValueError, KeyError, TypeError, struct.error)  # Pillow's, of EXIF
_OF_A_PROGRAM = re.compile(rb"(created|creator|file written|compressed|optimi[sz]ed|lavc)\b", re.I)
# Names of a PNG's notes that state how the file was made: "Source" is the device or the scan, as
# in "Kodak PCD0992".
_NO_NOTES = {"software", "source", "xml:com.adobe.xmp"}
_NO_NOTES_BEGIN = ("raw profile type", "date:", "exif:", "png:", "thumb::")


class Metadata(NamedTuple):
    """What belongs to an image beside its samples."""

    icc: bytes
    exif: bytes
    xmp: bytes
    losses: tuple[str, ...]  # a line for each thing that is left out


def metadata_of(img: Image.Image) -> Metadata:
    """Return what belongs to an image that has been loaded, the orientation set to upright."""
    losses = list(_losses_beside(img))
    try:
        exif = upright_exif(_exif_of(img))
    except _DAMAGE:
        losses.append("the EXIF data are damaged: they are left out")
        exif = b""
    found = {
        "ICC profile": img.info.get("icc_profile") or b"",
        "EXIF": exif,
        "XMP": upright_xmp(_xmp_of(img)),
    }
    for name, data in found.items():
        if len(data) > MAX_METADATA:
            losses.append(f"{name} of {len(data)} bytes is left out: the limit is {MAX_METADATA}")
            found[name] = b""
    return Metadata(*found.values(), tuple(losses))


def orientation_of(img: Image.Image) -> int:
    """Return the orientation that the EXIF data of an image state, 1 if they state none."""
    try:
        return img.getexif().get(ORIENTATION, 1)
    except _DAMAGE:
        return 1


def stated_orientation(exif: bytes, xmp: bytes) -> int:
    """Return the orientation that EXIF data state, or else an XMP packet; 1 if neither does."""
    found = Image.Exif()
    try:
        found.load(PREFIX + exif if exif else b"")
        stated = found.get(ORIENTATION)
    except _DAMAGE:
        stated = None
    if stated is None and (match := _XMP_ORIENTATION.search(xmp)):
        return int(match[2])
    return stated or 1


def upright_exif(exif: bytes) -> bytes:
    """Return EXIF data with orientation 1, "upright", where there was another; all else stays."""
    order = BYTE_ORDERS.get(exif[:4])
    if order is None:
        return exif

    def number(at: int, size: int) -> int:
        return int.from_bytes(exif[at : at + size], order)

    start = number(4, 4)
    for entry in range(start + 2, start + 2 + 12 * number(start, 2), 12):
        if number(entry, 2) == ORIENTATION and entry + 12 <= len(exif):
            size = 4 if number(entry + 2, 2) == 4 else 2  # LONG or SHORT
            value = (1).to_bytes(size, order)
            return exif[: entry + 8] + value + exif[entry + 8 + size :]
    return exif


def upright_xmp(xmp: bytes) -> bytes:
    """Return an XMP packet whose tiff:Orientation, if there is one, is 1."""
    return _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)


def descriptive_exif(found: Image.Exif) -> bytes:
    """Return the tags that describe an image, not how a TIFF file stores it, as EXIF data."""
    kept = Image.Exif()
    for tag in DESCRIPTIVE:
        if tag in found:
            kept[tag] = found[tag]
    for ifd in (EXIF_IFD, GPS_IFD):
        if tags := found.get_ifd(ifd):
            kept.get_ifd(ifd).update(tags)
    empty = not kept and not any(kept.get_ifd(ifd) for ifd in (EXIF_IFD, GPS_IFD))
    return b"" if empty else kept.tobytes().removeprefix(PREFIX)


def _exif_of(img: Image.Image) -> bytes:
    """Return the EXIF data of an image as a TIFF structure, b"" if there are none.

    They are those of its file byte for byte; of a TIFF file, the tags that describe the image.

    Raises:
      one of _DAMAGE.
    """
    stored = (img.info.get("exif") or b"").removeprefix(PREFIX)  # None: by pillow-heif
    if not stored:
        return descriptive_exif(img.getexif())
    if stored[:4] not in BYTE_ORDERS:
        raise ValueError("they don't begin with a byte order mark")
    return stored


def _xmp_of(img: Image.Image) -> bytes:
    return _as_bytes(img.info.get("xmp") or img.info.get("XML:com.adobe.xmp") or b"")


def _as_bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else bytes(text)


def _losses_beside(img: Image.Image) -> Iterator[str]:
    """Yield a line for each thing that a file holds beside the samples and jvrc does not keep."""
    if _has_iptc(img):
        yield "IPTC captions are left out"
    notes = {name for name in getattr(img, "text", {}) if not _is_technical(name)}
    if (comment := img.info.get("comment")) and not _OF_A_PROGRAM.match(_as_bytes(comment)):
        notes.add("comment")
    if notes:
        yield f"text notes are left out: {', '.join(sorted(notes))}"
    gamma = img.info.get("gamma")
    if gamma and abs(gamma - 1 / 2.2) > 0.01 and not {"icc_profile", "srgb"} & set(img.info):
        yield f"the gamma of {gamma:.3g} that the file states is left out: brightness may change"


def _has_iptc(img: Image.Image) -> bool:
    """Return whether a JPEG, a TIFF or a PNG holds IPTC captions."""
    resources = img.info.get("photoshop")
    if isinstance(resources, dict) and resources.get(_IPTC):
        return True
    return IPTC_TAG in getattr(img, "tag_v2", {}) or _IPTC_NOTE in getattr(img, "text", {})


def _is_technical(name: str) -> bool:
    """Return whether a PNG's note of this name says something about the file, not the image."""
    return name.lower() in _NO_NOTES or name.lower().startswith(_NO_NOTES_BEGIN)
