"""From a coded image to a whole file: alpha, profile, metadata and thumbnail are put beside it."""

from jvrc.codec.alpha import with_alpha
from jvrc.coding import packing
from jvrc.coding.container import GREY, RGB, Container, Section
from jvrc.coding.metadata import THUMBNAIL, write_metadata
from jvrc.coding.thumbnail import Thumbnails
from jvrc.io.picture import Picture

_THUMBNAIL_PIXELS = 2**20  # of an image that gets a thumbnail, at least
_THUMBNAIL_SHARE = 0.01  # of the file's bytes, at most
_SECTION_BYTES = 8  # of a section beside its payload, at most


class Assembly:
    """Makes whole files of one picture, of which it prepares what does not depend on qstep."""

    def __init__(self, picture: Picture, *, metadata: bool) -> None:
        """metadata: store EXIF, XMP and a thumbnail; the ICC profile is always stored."""
        exif, xmp = (picture.exif, picture.xmp) if metadata else (b"", b"")
        self._channels = GREY if picture.pixels.ndim == 2 else RGB
        self._sections = write_metadata(picture.icc, exif, xmp)
        self._alpha, self._coded_alpha = picture.alpha, ()
        pixels = picture.pixels.shape[0] * picture.pixels.shape[1]
        wanted = metadata and pixels >= _THUMBNAIL_PIXELS
        self._thumbnails = Thumbnails(picture.pixels, picture.alpha) if wanted else None

    def __call__(self, coded: Container) -> bytes:
        """Return the file of the picture, coded at any qstep."""
        coded = self._with_alpha(coded)
        coded = coded._replace(channels=self._channels, sections=self._sections)
        data = packing.pack(coded)
        if self._thumbnails is None:
            return data
        room = len(data) * _THUMBNAIL_SHARE / (1 - _THUMBNAIL_SHARE)
        thumbnail = self._thumbnails.within(int(room) - _SECTION_BYTES)
        if not thumbnail:
            return data
        sections = (*self._sections, Section(THUMBNAIL, thumbnail))
        return packing.pack(coded._replace(sections=sections))

    def _with_alpha(self, coded: Container) -> Container:
        if self._alpha is None:
            return coded
        if not self._coded_alpha:
            self._coded_alpha = tuple(t.alpha for t in with_alpha(coded, self._alpha).tiles)
        pairs = zip(coded.tiles, self._coded_alpha, strict=True)
        return coded._replace(tiles=tuple(tile._replace(alpha=alpha) for tile, alpha in pairs))
