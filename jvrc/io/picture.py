"""An image with what belongs to it: samples, alpha, colour profile and metadata."""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # a file is described without it
    import numpy as np

MAX_METADATA = 2**24  # bytes of each of a picture's icc, exif and xmp


class Picture(NamedTuple):
    """What a file or a PIL image holds, as far as jvrc keeps it."""

    pixels: "np.ndarray"  # uint8 [H,W,3], RGB, or [H,W], grey
    alpha: "np.ndarray | None" = None  # uint8 [H,W], 0 is transparent; None: opaque
    icc: bytes = b""  # ICC profile of the samples; none: sRGB
    exif: bytes = b""  # a TIFF structure, from its byte order mark on
    xmp: bytes = b""  # an XML text
    losses: tuple[str, ...] = ()  # what reading has changed, a line each
