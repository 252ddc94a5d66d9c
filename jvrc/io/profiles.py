"""ICC profiles: what they are for, and conversion to sRGB, by LittleCMS (Pillow's ImageCms).

The rendering intent is relative colorimetric with black point compensation: colours within sRGB
stay what they are, others move to its border.
"""

from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

_SPACES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab ": "LAB"}


def mode_of(icc: bytes) -> str | None:
    """Return the mode of the images that a profile is for: RGB, L, CMYK, LAB; None if damaged."""
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(icc))
    except (OSError, ImageCms.PyCMSError):
        return None
    return _SPACES.get(profile.profile.xcolor_space)


def misfit(icc: bytes, *, grey: bool) -> str | None:
    """Return why a profile does not fit RGB, or grey, as "is damaged"; None if it does."""
    kind = mode_of(icc)
    if kind is None:
        return "is damaged"
    return None if kind == "RGB" or (grey and kind == "L") else f"is for {kind} images"


def describe(icc: bytes) -> str:
    """Return a profile's name for people; "damaged" if it can't be read."""
    try:
        return ImageCms.getProfileDescription(BytesIO(icc)).strip()
    except (OSError, ImageCms.PyCMSError):
        return "damaged"


def to_srgb(img: Image.Image, icc: bytes) -> Image.Image | None:
    """Return an image of the profile's mode as RGB, in sRGB; None if the profile is damaged."""
    try:
        return ImageCms.profileToProfile(
            img,
            ImageCms.ImageCmsProfile(BytesIO(icc)),
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (OSError, ImageCms.PyCMSError):
        return None


def pixels_to_srgb(pixels: np.ndarray, icc: bytes) -> np.ndarray | None:
    """Return uint8 [H,W,3] or [H,W] (grey) in sRGB; None if the profile is damaged.

    The profile is for RGB, or of grey pixels also for grey.
    """
    grey = pixels.ndim == 2
    img = Image.fromarray(pixels)
    converted = to_srgb(img.convert(mode_of(icc) or img.mode), icc)
    if converted is None:
        return None
    return np.asarray(converted.getchannel("G") if grey else converted)
