"""Arrays as images: what is taken, and errors for the rest that say the remedy."""

from typing import Any

import numpy as np

from jvrc.io.picture import Picture

_RGB_ONLY = {2: "grey: np.stack([img] * 3, axis=-1)", 4: "with alpha: img[..., :3]"}


def rgb_array(img: Any) -> np.ndarray:
    """Return an array as NumPy's, uint8 [H,W,3]; ValueError if it is none of that kind."""
    array = _samples(img)
    if array.ndim != 3 or array.shape[-1] != 3:
        channels = 2 if array.ndim == 2 else array.shape[-1] if array.ndim == 3 else 0
        remedy = _RGB_ONLY.get(channels) or _remedy(array)
        raise ValueError(f"img must have shape [H,W,3], got {list(array.shape)}; {remedy}")
    return array


def picture_of_array(img: Any) -> Picture:
    """Return an array as a picture: uint8 [H,W,3], [H,W] (grey) or [H,W,4] (with alpha).

    Alpha is kept even if all of it is opaque, so that the shape comes back.

    Raises:
      ValueError: it is none of these.
    """
    array = _samples(img)
    if array.ndim == 3 and array.shape[-1] == 4:
        return Picture(array[..., :3], array[..., 3])
    if array.ndim == 2 or (array.ndim == 3 and array.shape[-1] == 3):
        return Picture(array)
    raise ValueError(
        f"img must have shape [H,W,3], [H,W] or [H,W,4], got {list(array.shape)}; {_remedy(array)}"
    )


def check_picture(picture: Picture) -> Picture:
    """Return a picture that a caller has made; ValueError if its arrays break a rule."""
    found = picture_of_array(picture.pixels)
    if found.alpha is not None:
        raise ValueError("pixels of a Picture must be [H,W,3] or [H,W]; pass alpha by itself")
    for field in ("icc", "exif", "xmp"):
        if not isinstance(value := getattr(picture, field), bytes):
            raise ValueError(
                f'{field} of a Picture must be bytes, b"" for none, got {type(value).__name__}'
            )
    if picture.alpha is None:
        return picture._replace(pixels=found.pixels)
    alpha, size = np.asarray(picture.alpha), found.pixels.shape[:2]
    if alpha.dtype != np.uint8 or alpha.shape != size:
        raise ValueError(
            f"alpha of a Picture must be uint8 {list(size)} as its pixels, got {alpha.dtype} "
            f"{list(alpha.shape)}"
        )
    return picture._replace(pixels=found.pixels, alpha=alpha)


def _samples(img: Any) -> np.ndarray:
    array = np.asarray(img)
    if array.dtype != np.uint8:
        raise ValueError(f"img must be uint8, got dtype {array.dtype}; {_scaling(array.dtype)}")
    if array.size == 0:
        raise ValueError(f"img must have at least one pixel, got shape {list(array.shape)}")
    return array


def _scaling(dtype: np.dtype) -> str:
    if dtype == np.bool_:
        return "black and white: np.uint8(255) * img"
    if dtype.kind in "USO":
        return "pass an array or a PIL image (of a file: PIL.Image.open(path))"
    if dtype == np.uint16:
        return "values 0 ... 65535: np.round(img / 257).astype(np.uint8)"
    if dtype.kind in "iu":
        return "values 0 ... 255: img.astype(np.uint8)"
    return "values in [0, 1]: np.round(255 * img).astype(np.uint8)"


def _remedy(array: np.ndarray) -> str:
    if array.ndim == 3 and array.shape[-1] == 1:
        return "grey: img[..., 0]"
    if array.ndim == 3 and array.shape[-1] == 2:
        return "grey with alpha: jvrc.Picture(img[..., 0], alpha=img[..., 1])"
    if array.ndim == 3 and array.shape[0] in (1, 3, 4):
        return "channels first: img.transpose(1, 2, 0)"
    if array.ndim == 4:
        return "a batch: pass one image at a time"
    return "pass one image"
