"""What a file says of itself, without decoding the image."""

from typing import NamedTuple

from jvrc.codec.arguments import check_data
from jvrc.coding.container import UNLIMITED, Container, check_qstep_code
from jvrc.coding.metadata import THUMBNAIL, readable_metadata
from jvrc.coding.packing import unpack
from jvrc.frozen import zoo
from jvrc.qstep import qstep_of


class Info(NamedTuple):
    """A compressed image, described."""

    width: int  # pixels
    height: int
    channels: int  # 3 (RGB) or 1 (grey), without alpha
    alpha: bool
    qstep: float  # quantisation step Delta
    model_id: str  # eight hex digits
    model: str | None  # the name of the shipped model that has this id
    version: int  # of the format
    tiles: int
    bytes: int  # of the file
    bpp: float  # bits per pixel
    profile: str  # description of the ICC profile, "" if there is none: sRGB
    icc: int  # bytes of the ICC profile, uncompressed
    exif: int  # bytes of the EXIF data, uncompressed
    xmp: int  # bytes of the XMP packet, uncompressed
    thumbnail: int  # bytes of the thumbnail in the file
    patched: float  # share of the blocks of 64x64 pixels that are coded without the model


def inspect(data: bytes) -> Info:
    """Describe a compressed image of any size without decoding it.

    Args:
      data: what `compress` returned.

    Raises:
      BitstreamError: data is damaged, truncated or foreign.
    """
    check_data(data)
    coded = unpack(bytes(data), max_pixels=UNLIMITED)
    check_qstep_code(coded)
    (icc, exif, xmp), _ = readable_metadata(coded.sections)
    return Info(
        width=coded.width,
        height=coded.height,
        channels=coded.channels,
        alpha=any(tile.alpha for tile in coded.tiles),
        qstep=qstep_of(coded.qstep_code),
        model_id=coded.model_id,
        model=zoo.name_of(coded.model_id),
        version=coded.version,
        tiles=len(coded.tiles),
        bytes=len(data),
        bpp=8 * len(data) / (coded.width * coded.height),
        profile=_description(icc),
        icc=len(icc),
        exif=len(exif),
        xmp=len(xmp),
        thumbnail=sum(len(payload) for kind, payload in coded.sections if kind == THUMBNAIL),
        patched=_patched(coded),
    )


def _patched(coded: Container) -> float:
    if not any(tile.patch for tile in coded.tiles):
        return 0.0
    from jvrc.coding.patch import patched_blocks  # imports NumPy

    patched, blocks = patched_blocks(coded)
    return patched / blocks


def _description(icc: bytes) -> str:
    if not icc:
        return ""
    from jvrc.io.profiles import describe  # imports Pillow

    return describe(icc)
