"""Decompressing images that are too large for memory: straight into a file, piece by piece."""

from pathlib import Path
from typing import Any

from jvrc.cli.common import note

ANY_SIZE = 2**64  # pixels


def is_large(stream: Any, crop: tuple[int, int, int, int] | None) -> bool:
    """Return whether all of a file (its Container) is wanted, and is too large for memory."""
    from jvrc.coding import container

    return crop is None and stream.width * stream.height > container.MAX_PIXELS


def refuse_large(stream: Any, source: Path, crop: tuple[int, int, int, int] | None) -> None:
    """Raise ValueError for an image that has to be decompressed by itself."""
    if is_large(stream, crop):
        raise ValueError(
            f"{source}: an image of {stream.height} x {stream.width} pixels is too large to be one "
            "of several; decompress it by itself, with -o OUT.ppm or OUT.tif"
        )


def check_large(output: Path, stream: Any) -> None:
    """Raise ValueError unless the output's format can be written piece by piece."""
    from jvrc.io import large

    try:
        large.check_large(output, _shape(stream))
    except ValueError as error:
        raise ValueError(
            f"{output}: an image of {stream.height} x {stream.width} pixels is too large for this "
            "format; name a .tif or, without alpha, a .ppm with -o, or decompress a part with "
            "--crop"
        ) from error


def decompress_large(model: Any, data: bytes, stream: Any, output: Path) -> None:
    """Decompress straight into a file; print what it does not hold."""
    import jvrc
    from jvrc.coding.metadata import SECTION_NAMES, THUMBNAIL
    from jvrc.io.large import create_large

    with create_large(output, _shape(stream)) as out:
        jvrc.decompress(model, data, out=out)
    lost = [SECTION_NAMES[kind] for kind, _ in stream.sections if kind in SECTION_NAMES]
    for name in lost:
        if name != SECTION_NAMES[THUMBNAIL]:
            note(f"jvrc: warning: {output}: {name} is left out of an image of this size")


def _shape(stream: Any) -> tuple[int, ...]:
    """Return the shape of the image of a file, as `jvrc.decompress` gives it."""
    size, grey = (stream.height, stream.width), stream.channels == 1
    if any(tile.alpha for tile in stream.tiles):
        return (*size, 4)
    return size if grey else (*size, 3)
