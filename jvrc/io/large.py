"""Image files as arrays on disk: read and written piece by piece, whatever their size.

PPM and PGM (binary, 8 bits), TIFF and BigTIFF (uncompressed, 8 bits, in strips that follow one
another) and .npy hold samples as they are. Such a file is mapped into memory, not loaded.
"""

import errno
import math
import os
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from jvrc.io import profiles, tiff
from jvrc.io.files import replacing
from jvrc.io.metadata import upright_xmp
from jvrc.io.picture import Picture

LEAST_PIXELS = 2**26  # of images that need not be loaded: 67 megapixels, 200 MB
SUFFIXES = (".ppm", ".pgm", ".tif", ".tiff", ".npy")  # that `create_large` writes

_PNM = re.compile(rb"P([56])(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+255\s")
_PNM_HEADER = 4096  # bytes, at most


def open_large(path: str | os.PathLike, *, least_pixels: int | None = None) -> Picture | None:
    """Return the picture of a file, its pixels and alpha mapped and read-only.

    None if the image is smaller than `least_pixels` (LEAST_PIXELS), or if its samples don't lie in
    the file as they are: compressed, of more than 8 bits, in tiles, or not upright.

    Raises:
      OSError: the file can't be read.
      ValueError: it ends before its samples do.
    """
    least_pixels = LEAST_PIXELS if least_pixels is None else least_pixels
    found = _open(Path(path))
    small = found is None or math.prod(found.pixels.shape[:2]) < least_pixels
    return None if small else found


def _open(path: Path) -> Picture | None:
    with path.open("rb") as file:
        head = file.read(_PNM_HEADER)
    if head.startswith(b"\x93NUMPY"):
        return _picture(_open_npy(path))
    if head[:2] in (b"P5", b"P6"):
        return _picture(_open_pnm(path, head))
    found = tiff.find_samples(path) if head[:2] in (b"II", b"MM") else None
    if found is None:
        return None
    if found.xmp != upright_xmp(found.xmp):
        return None  # it has to be turned
    icc, losses = found.icc, []
    if icc and (why := profiles.misfit(icc, grey=len(found.shape) == 2)):
        icc, losses = b"", [f"the ICC profile {why}: it is left out"]
    if found.described:
        losses.append("EXIF, IPTC and descriptive tags are not read from a TIFF that is mapped")
    if found.pages:
        losses.append("further pages are left out")
    samples = _mapped(path, found.offset, found.shape)
    return _picture(samples)._replace(icc=icc, xmp=found.xmp, losses=tuple(losses))


@contextmanager
def create_large(
    path: str | os.PathLike, shape: tuple[int, ...], *, replace: bool = True
) -> Iterator[np.ndarray]:
    """Give an image to write, uint8 [h,w,3], [h,w,4] or [h,w], that becomes the file at the end.

    The file appears complete, or not at all if the block is left by an exception. Its suffix
    chooses the format: see SUFFIXES. A TIFF of 4 GB and more becomes a BigTIFF. replace: whether
    the place of an old file may be taken. On Windows the block has to let go of the array, by
    `del`, before it ends: a file that is mapped can't take its place.

    Raises:
      ValueError: the format can't hold such an image.
      OSError: the file can't be written; FileExistsError if replace is False and there is one.
    """
    target = Path(os.path.realpath(path))
    header = _header_of(path, shape)
    with replacing(target, replace=replace) as temporary:
        try:
            _create(temporary, header, math.prod(shape))
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{path}: no such folder") from error
        except OSError as error:
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        array = np.memmap(temporary, np.uint8, "r+", len(header), shape)
        try:
            yield array
            array.flush()
        finally:
            del array


def _create(path: Path, header: bytes, size: int) -> None:
    """Write a header with room for so many bytes behind it.

    The room is taken on the disk where the system can do that: a disk that is full later would end
    the process (SIGBUS).
    """
    with path.open("xb") as file:
        file.write(header)
        file.truncate(len(header) + size)
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(file.fileno(), 0, len(header) + size)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    raise


def _header_of(path: str | os.PathLike, shape: tuple[int, ...]) -> bytes:
    """Return the bytes before the samples in the format of a suffix."""
    suffix, channels = Path(path).suffix.lower(), (*shape, 1)[2]
    writers: dict[str, Callable[[tuple[int, ...]], bytes]] = {
        ".npy": _npy_header,
        ".tif": tiff.header,
        ".tiff": tiff.header,
    }
    if suffix in writers:
        return writers[suffix](shape)
    if (suffix, channels) == (".ppm", 3):
        return b"P6\n%d %d\n255\n" % (shape[1], shape[0])
    if suffix in (".ppm", ".pgm") and channels == 1:
        return b"P5\n%d %d\n255\n" % (shape[1], shape[0])
    raise ValueError(
        f"{path}: an image of {list(shape)} samples can't be written piece by piece as "
        f"{suffix!r}; possible: .npy, .tif, .ppm (without alpha) and .pgm (grey)"
    )


def _picture(samples: np.ndarray | None) -> Picture | None:
    """Return samples, [h,w,3], [h,w,4] or [h,w], as a picture without a copy."""
    if samples is None or samples.ndim == 2 or samples.shape[2] == 3:
        return None if samples is None else Picture(samples)
    return Picture(samples[..., :3], samples[..., 3])


def _open_pnm(path: Path, head: bytes) -> np.ndarray | None:
    found = _PNM.match(head)
    if found is None:
        return None
    width, height = int(found[2]), int(found[3])
    return _mapped(path, found.end(), (height, width, 3) if found[1] == b"6" else (height, width))


def _open_npy(path: Path) -> np.ndarray | None:
    """Return an array on disk, None if it is no image; ValueError if the file is damaged."""
    try:
        array = np.load(path, mmap_mode="r")
    except (ValueError, EOFError, OverflowError) as error:
        raise ValueError(f"{path}: damaged, or no array of numbers: {error}") from error
    usual = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    return array if array.dtype == np.uint8 and usual and array.size else None


def _npy_header(shape: tuple[int, ...]) -> bytes:
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {tuple(shape)}, }}"
    padded = text.ljust(64 * -(-(len(text) + 11) // 64) - 11) + "\n"  # a multiple of 64 with magic
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded.encode("latin1")


def _mapped(path: Path, offset: int, shape: tuple[int, ...]) -> np.ndarray:
    size = math.prod(shape)
    have = path.stat().st_size - offset
    if have < size or not size:
        raise ValueError(f"{path}: truncated: {max(0, have)} of {size} bytes of samples")
    return np.memmap(path, np.uint8, "r", offset, shape)
