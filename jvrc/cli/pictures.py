"""Pictures from inputs and into outputs, with a line of warning for each loss."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

from jvrc.cli.common import STANDARD, name_of
from jvrc.cli.messages import note
from jvrc.cli.outputs import Job, not_over_another, read_input, write_output
from jvrc.io.files import is_stream


def read(source: Path, *, srgb: bool) -> Any:
    """Return the picture of a file or of standard input, whose losses have been printed.

    Large files whose samples lie in them as they are stay on disk.

    srgb: convert to sRGB.
    """
    picture = _mapped(source)
    if picture is None or (srgb and picture.icc):
        picture = _loaded(source, srgb=srgb)
    for line in picture.losses:
        note(f"jvrc: warning: {name_of(source)}: {line}")
    return picture


def write(output: Path, suffix: str, picture: Any, *, force: bool) -> None:
    """Write a picture in the format of a suffix; print what that format can't hold.

    force: whether it may replace a file.
    """
    from jvrc.io.writing import encode_picture

    data, losses = encode_picture(output.with_suffix(suffix), picture)
    for line in (*picture.losses, *losses):
        note(f"jvrc: warning: {output}: {line}")
    write_output(output, data, force=force)


def thumbnail_of(source: Path, coded: Any) -> Any:
    """Return the thumbnail of a file; ValueError if it has none."""
    from jvrc.coding.metadata import THUMBNAIL, readable_metadata
    from jvrc.coding.thumbnail import decode
    from jvrc.io.picture import Picture

    found = [payload for kind, payload in coded.sections if kind == THUMBNAIL]
    if not found:
        raise ValueError(
            f"{name_of(source)}: holds no thumbnail; decompress it without --thumbnail"
        )
    (icc, _, _), _ = readable_metadata(coded.sections)
    pixels = decode(found[0])
    return Picture(pixels[..., 1] if coded.channels == 1 else pixels, icc=icc)


def stays_on_disk(job: Job, coded: Any) -> bool:
    """Return whether an image is so large that it is decoded into its file, not into memory.

    Raises:
      ValueError: it is too large for memory, and its output no file that it can be decoded into.
    """
    from jvrc.coding.container import MAX_PIXELS, coded_pixels
    from jvrc.io.large import LEAST_PIXELS, SUFFIXES

    output, pixels = job.output, coded_pixels(coded.height, coded.width)
    is_file = output != STANDARD and not is_stream(output)
    if pixels >= LEAST_PIXELS and is_file and output.suffix.lower() in SUFFIXES:
        return True
    if pixels > MAX_PIXELS:
        raise ValueError(
            f"{name_of(job.source)}: {coded.height}x{coded.width} pixels need a file as they lie: "
            "write .tif or .ppm with -o, or a part with --crop"
        )
    return False


def write_large(output: Path, coded: Any, decode: Callable[..., Any], *, force: bool) -> None:
    """Decode a large image into its file; print what the file does not hold."""
    from jvrc.coding.metadata import readable_metadata
    from jvrc.io.large import create_large

    alpha = any(tile.alpha for tile in coded.tiles)
    channels = (4,) if alpha else () if coded.channels == 1 else (3,)
    shape = (coded.height, coded.width, *channels)
    with not_over_another(output), create_large(output, shape, replace=force) as out:
        decode(out=out)
        del out  # on Windows a file that is mapped can't take its place
    names = ("the colour profile", "EXIF", "XMP")
    for name, data in zip(names, readable_metadata(coded.sections)[0], strict=True):
        if data:
            note(f"jvrc: warning: {output}: {name} is left out: the image is large")


def _mapped(source: Path) -> Any:
    """Return the picture of a large file on disk, None for others."""
    from jvrc.io.large import SUFFIXES, open_large

    suffix = source.suffix.lower()
    if suffix not in SUFFIXES or not source.is_file():
        return None
    if suffix != ".npy":
        return open_large(source)
    picture = open_large(source, least_pixels=1)
    if picture is None:
        raise ValueError(f"{source}: holds no array uint8 [H,W,3], [H,W] or [H,W,4], of an image")
    return picture


def _loaded(source: Path, *, srgb: bool) -> Any:
    from jvrc.coding.container import MAX_PIXELS
    from jvrc.io.images import read_picture
    from jvrc.io.plugins import missing_package, register_plugins

    register_plugins(source)
    file: Any = source
    if source == STANDARD:
        file = BytesIO(read_input(source))
        file.name = name_of(source)
    try:
        return read_picture(file, srgb=srgb, max_pixels=MAX_PIXELS)
    except ValueError as error:
        if package := missing_package(source):
            raise ValueError(f"{error}; install {package} to read such files") from error
        raise
    except RuntimeError as error:  # of a plugin
        raise ValueError(f"{name_of(source)}: can't be read: {error}") from error
