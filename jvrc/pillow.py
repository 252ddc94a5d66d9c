"""A plugin for Pillow: after `import jvrc.pillow`, it opens and saves files of jvrc.

    with Image.open("photo.jvrc") as img: ...
    img.save("photo.jvrc", qstep=2)

Options of `save`: qstep (2 if there is no target), target_bytes, target_bpp, target_psnr, effort,
masking; model, a shipped model's name, the path of a weights file, or a `FrozenModel`; icc_profile,
exif and xmp as in other formats: the profile is that of the image unless given, EXIF and XMP are
written only if given.
"""

import functools
import os
import warnings
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

import jvrc
from jvrc.coding.container import GREY, UNLIMITED
from jvrc.coding.metadata import readable_metadata
from jvrc.coding.packing import MAGIC, unpack
from jvrc.errors import BitstreamError
from jvrc.frozen import zoo
from jvrc.io.images import as_picture, to_pil
from jvrc.io.metadata import (
    BYTE_ORDERS,
    ORIENTATION,
    descriptive_exif,
    stated_orientation,
    upright_exif,
    upright_xmp,
)
from jvrc.io.metadata import PREFIX as EXIF_PREFIX
from jvrc.io.reading import TURNS, lost_frames

if TYPE_CHECKING:
    from jvrc.frozen.model import FrozenModel

_FORMAT, _SUFFIX, _MIME = "JVRC", ".jvrc", "image/x-jvrc"
_QSTEP = 2.0
_RATES = ("qstep", "target_bytes", "target_bpp", "target_psnr")
_known: dict[str, "FrozenModel"] = {}  # by model id


def add_model(model: "FrozenModel") -> None:
    """Let `PIL.Image.open` read files of a model that the package does not ship."""
    _known[model.model_id] = model


class JvrcImageFile(ImageFile.ImageFile):
    """A compressed image: size, mode and metadata of its header, pixels when they are needed."""

    format = _FORMAT
    format_description = "jvrc, learned image compression"

    def _open(self) -> None:
        self._data = self.fp.read()
        try:
            coded = unpack(self._data, max_pixels=UNLIMITED)  # Pillow limits them
            beside, _ = readable_metadata(coded.sections)
        except BitstreamError as error:
            raise UnidentifiedImageError(f"cannot identify image file: {error}") from error
        pixel = np.zeros((1, 1) if coded.channels == GREY else (1, 1, 3), np.uint8)
        alpha = pixel.reshape(-1)[None, :1] if any(tile.alpha for tile in coded.tiles) else None
        like = to_pil(jvrc.Picture(pixel, alpha, *beside))
        self._mode, self._size = like.mode, (coded.width, coded.height)
        self._model_id = coded.model_id
        self.info |= like.info
        self.tile = [("raw", (0, 0, *self.size), 0, self.mode)]

    def load(self) -> Any:
        """Decode the image, if that has not been done.

        Raises:
          OSError: it is damaged, or its model is not known.
        """
        if self.tile and self._data and self.fp:
            pixels = self._decoded()
            if self._exclusive_fp:
                self.fp.close()
            self.fp, self._data = BytesIO(pixels), b""
        return super().load()

    def load_seek(self, pos: int) -> None:
        """Do nothing: the decoded pixels are at hand."""

    def _decoded(self) -> bytes:
        """Return the pixels; Pillow has limited their number already."""
        try:
            model = _model_of(self._model_id)
            picture = jvrc.decompress_picture(model, self._data, max_pixels=UNLIMITED)
        except ValueError as error:
            raise OSError(f"broken data stream when reading image file: {error}") from error
        return to_pil(picture).tobytes()


def _model_of(model_id: str) -> "FrozenModel":
    if model_id in _known:
        return _known[model_id]
    name = zoo.name_of(model_id)
    if name is None:
        raise ValueError(
            f"{zoo.missing(model_id)}: load the weights file that compressed the image, and "
            "pass the model to jvrc.pillow.add_model"
        )
    return _shipped(name)


@functools.lru_cache(maxsize=4)
def _shipped(name: str) -> "FrozenModel":
    return jvrc.load(name)


def _loaded(name: str) -> "FrozenModel":
    """Return a shipped model, which is read once, or that of a file, which may change."""
    return _shipped(name) if zoo.shipped_file(name) else jvrc.load(name)


def _save(img: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    """Write an image as `PIL.Image.Image.save` asks for it."""
    options = img.encoderinfo
    model = options.get("model", zoo.DEFAULT)
    if isinstance(model, str | os.PathLike):
        model = _loaded(os.fspath(model))
    names = (*_RATES, "effort", "masking")
    given = {name: options[name] for name in names if options.get(name) is not None}
    if not set(_RATES) & set(given):
        given["qstep"] = _QSTEP
    file.write(jvrc.compress(model, _picture(img, options), **given))


def _picture(img: Image.Image, options: dict[str, Any]) -> jvrc.Picture:
    """Return what to compress: the pixels as they lie, and the metadata that was asked for."""
    plain = img.copy()
    plain.info = {k: v for k, v in img.info.items() if k == "transparency"}
    icc = options.get("icc_profile", img.info.get("icc_profile"))
    if icc:
        plain.info["icc_profile"] = icc
    exif, xmp = _exif_of(options), _xmp_of(options)
    if (turn := TURNS.get(stated_orientation(exif, xmp))) is not None:
        plain = plain.transpose(turn)  # pixels in files of jvrc are upright
    picture = as_picture(plain)
    for line in (*_lost_frames(img), *picture.losses):
        warnings.warn(f"{_FORMAT}: {line}", stacklevel=4)
    return picture._replace(exif=upright_exif(exif), xmp=upright_xmp(xmp))


def _exif_of(options: dict[str, Any]) -> bytes:
    """Return the EXIF data that were asked for, without their prefix; b"" if there are none."""
    exif = options.get("exif") or b""
    if isinstance(exif, Image.Exif):
        exif = _classic(exif).tobytes()
    if not isinstance(exif, bytes):
        raise TypeError(f"exif must be bytes or Image.Exif; got {type(exif).__name__}")
    exif = exif.removeprefix(EXIF_PREFIX)
    if exif and exif[:4] not in BYTE_ORDERS:
        raise ValueError(f"exif must begin with a byte order mark; got {exif[:4]!r}")
    return exif


def _classic(exif: Image.Exif) -> Image.Exif:
    """Return EXIF tags that are written as a classic TIFF structure, not as a BigTIFF one."""
    if not exif.bigtiff:
        return exif
    found = Image.Exif()
    found.load(EXIF_PREFIX + descriptive_exif(exif))
    found[ORIENTATION] = exif.get(ORIENTATION, 1)
    return found


def _xmp_of(options: dict[str, Any]) -> bytes:
    xmp = options.get("xmp") or b""
    return xmp.encode() if isinstance(xmp, str) else xmp


def _lost_frames(img: Image.Image) -> tuple[str, ...]:
    """Return `lost_frames`, nothing for an image whose file is closed."""
    try:
        return lost_frames(img)
    except (ValueError, OSError, AttributeError, EOFError, SyntaxError):
        return ()


def _accepts(prefix: bytes) -> bool:
    return prefix.startswith(MAGIC)


Image.register_open(_FORMAT, JvrcImageFile, _accepts)
Image.register_save(_FORMAT, _save)
Image.register_extension(_FORMAT, _SUFFIX)
Image.register_mime(_FORMAT, _MIME)
