"""Batches: lists of images to lists of files and back.

The functions keep no state and pickle, as does a `FrozenModel`, so `functools.partial` of one with
a model runs in a pool of processes or under an engine for many machines (docs/batches.md).
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from jvrc.codec.files import compress, decompress
from jvrc.errors import BitstreamError
from jvrc.frozen.model import FrozenModel
from jvrc.io.picture import Picture


def compress_batch(
    params: FrozenModel, images: Sequence[Any], qstep: float | None = None, **options: Any
) -> list[bytes]:
    """Compress images one after another; they may differ in size and kind.

    Args:
      params: as in `compress`.
      images: each as in `compress`.
      qstep: as in `compress`, for all images.
      **options: as in `compress`, for all images.

    Raises:
      ValueError: as in `compress`; the message has the image's number, from 0 on.
    """
    _check_list("images", images)
    files = []
    for number, img in enumerate(images):
        with _numbered("images", number):
            files.append(compress(params, img, qstep, **options))
    return files


def decompress_batch(
    params: FrozenModel, files: Sequence[bytes], **options: Any
) -> list[np.ndarray]:
    """Restore images one after another.

    Args:
      params: the model that compressed all of them.
      files: each what `compress` returned.
      **options: as in `decompress`, for all files.

    Raises:
      BitstreamError, ValueError: as in `decompress`; the message has the file's number, from 0 on.
    """
    _check_list("files", files)
    if options.get("out") is not None:
        raise ValueError("out must be for one image; decompress_batch makes an array for each")
    images = []
    for number, data in enumerate(files):
        with _numbered("files", number):
            images.append(decompress(params, data, **options))
    return images


def _check_list(name: str, given: Any) -> None:
    """Raise ValueError for what is one image or one file, not several."""
    shape = getattr(given, "shape", ())
    one = len(shape) == 3 and shape[-1] in (3, 4)  # not [B,H,W], grey
    single = str | bytes | bytearray | memoryview | Picture
    if one or not isinstance(given, Iterable) or isinstance(given, single):
        kind = f"an array {list(shape)}" if one else type(given).__name__
        raise ValueError(f"{name} must be a list, got {kind}; of one, pass a list of one")


@contextmanager
def _numbered(name: str, number: int) -> Iterator[None]:
    """Let errors name one of the arguments of a batch."""
    try:
        yield
    except BitstreamError as error:
        raise BitstreamError(f"{name}[{number}]: {error}") from error
    except ValueError as error:
        raise ValueError(f"{name}[{number}]: {error}") from error
