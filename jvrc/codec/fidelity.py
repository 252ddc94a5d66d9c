"""The PSNR of a coded image, measured by decoding it beside the original, in bounded memory."""

import math

import numpy as np

from jvrc.codec.canvas import to_grey
from jvrc.codec.coders import coder_of
from jvrc.codec.decoder import decode_image
from jvrc.codec.latent_coder import CoderOf, LatentCoder, Symbols
from jvrc.coding.container import Container, Stream
from jvrc.frozen.model import FrozenModel

_MOST_TILES = 4  # whose coders are remembered: 20 MB each


class SquaredError:
    """Takes windows of RGB as an array does, and adds up their squared error."""

    def __init__(self, pixels: np.ndarray) -> None:
        """pixels: the original, uint8 [h,w,3] or [h,w]."""
        self._pixels, self._sum = pixels, 0

    def __setitem__(self, window: tuple[slice, slice], found: np.ndarray) -> None:
        found = to_grey(found) if self._pixels.ndim == 2 else found
        error = found.astype(np.int32) - self._pixels[window]
        self._sum += int(np.sum(np.square(error), dtype=np.int64))

    def psnr(self) -> float:
        """Return the PSNR in dB."""
        if not self._sum:
            return math.inf
        return 10 * math.log10(255**2 * self._pixels.size / self._sum)


def psnr_of(
    model: FrozenModel, coded: Container, pixels: np.ndarray, coder_of: CoderOf = coder_of
) -> float:
    """Return the PSNR in dB of a coded image, over all samples of its original.

    pixels: uint8 [h,w,3], or [h,w] of a grey image.
    """
    error = SquaredError(pixels)
    decode_image(model, coded, out=error, coder_of=coder_of)
    return error.psnr()


class RememberedCoders:
    """Coders for decoding what was just encoded: symbols and y^ need not be computed again.

    They are the same: a stream decodes to the same integers everywhere. Of images of many tiles
    nothing is remembered.
    """

    def __init__(self, tiles: int, coder_of: CoderOf) -> None:
        """tiles: of the image. coder_of: makes the coders."""
        self._remembers, self._coder_of = tiles <= _MOST_TILES, coder_of
        self._known: dict[tuple[bytes, Stream], tuple[LatentCoder, Symbols]] = {}

    def encoding(self, model: FrozenModel, z_q: np.ndarray, qstep_code: int) -> LatentCoder:
        """Return the coder of y with which a tile is encoded (jvrc.codec.latent_coder.CoderOf)."""
        coder = self._coder_of(model, z_q, qstep_code)
        return _Encoding(coder, z_q.tobytes(), self._known) if self._remembers else coder

    def decoding(self, model: FrozenModel, z_q: np.ndarray, qstep_code: int) -> LatentCoder:
        """Return the coder of y with which a tile is decoded."""
        if not self._remembers:
            return self._coder_of(model, z_q, qstep_code)
        return _Decoding(z_q.tobytes(), self._known)


class _Encoding:
    """A latent coder that notes what it encodes."""

    def __init__(self, coder: LatentCoder, z: bytes, known: dict) -> None:
        self._coder, self._z, self._known = coder, z, known

    def __getattr__(self, name: str) -> object:
        return getattr(self._coder, name)

    def encode(self, symbols: Symbols, index_shift: np.ndarray) -> Stream:
        stream = self._coder.encode(symbols, index_shift)
        self._known[self._z, stream] = self._coder, symbols
        return stream


class _Decoding:
    """A latent coder that looks up what was encoded."""

    def __init__(self, z: bytes, known: dict) -> None:
        self._z, self._known = z, known

    def __getattr__(self, name: str) -> object:
        return getattr(self._coder, name)

    def decode(self, stream: Stream, index_shift: np.ndarray) -> Symbols:
        del index_shift
        self._coder, symbols = self._known[self._z, stream]
        return symbols
