"""The latent coder of mbt2018, whose sigma and mu depend on the latents coded before.

All positions of a wavefront (jvrc.codec.latent_coders.wavefront_order) are coded at once, in one
loop (jvrc.codec.latent_coders.wavefront_loop), of one image or of several.
"""

from collections.abc import Sequence
from copy import copy
from functools import partial
from typing import Self

import numpy as np
from jax import Array

from jvrc.codec.effort import rdoq
from jvrc.codec.latent_coders import wavefront_loop
from jvrc.codec.latent_coders.wavefront_loop import INTEGER, Arithmetic
from jvrc.codec.latent_coders.wavefront_order import order, power_of_two
from jvrc.codec.tiles.latent_coder import Symbols, reconstruct_with_offsets
from jvrc.codec.tiles.scene import Scene
from jvrc.codec.tiles.streams import encode_stream
from jvrc.codec.transforms.latents import hyper_synthesis_tiles
from jvrc.coding import escapes, range_coder, scale_adaptation
from jvrc.coding.container import Stream
from jvrc.errors import BitstreamError
from jvrc.frozen.model import FrozenModel
from jvrc.integer import context
from jvrc.integer.network import Network
from jvrc.model.config import Config
from jvrc.runtime.programs import stored


class WavefrontCoder:
    """Implements jvrc.codec.tiles.latent_coder.LatentCoder and jvrc.codec.effort.rdoq.Coder."""

    rdoq_rounds = 3
    arithmetic: Arithmetic = INTEGER

    def __init__(self, model: FrozenModel, z_q: np.ndarray, qstep_code: int) -> None:
        self.model, self.qstep_code = model, qstep_code
        self._psi = self.psi(z_q)

    def at(self, qstep_code: int) -> Self:
        """Return the coder of the same z^ at another step."""
        found = copy(self)
        found.qstep_code = qstep_code
        return found

    def psi(self, z_q: np.ndarray) -> np.ndarray:
        """Return what h_s tells the entropy parameters: int32 [H/16,W/16,10M/3]."""
        (found,) = hyper_synthesis_tiles(_h_s_psi, self.model, z_q, self.qstep_code)
        return found

    def quantise(self, y: np.ndarray) -> Symbols:
        """Return q = round((y - mu) / Delta), mu following from the q before."""
        codes, arithmetic = [self.qstep_code], self.arithmetic
        return quantise_batch(self.model, [y], [self._psi], codes, arithmetic=arithmetic)[0]

    def scale_indices(self, y: np.ndarray) -> np.ndarray:
        """Return the scale indices of the symbols nearest to y."""
        return self.quantise(y).index

    def optimise(
        self, scene: Scene, symbols: Symbols, *, effort: int, progress: bool = False
    ) -> Symbols:
        """Return symbols of a smaller J, by RDOQ."""
        img, weight = scene.tile_img, scene.tile_weight
        return rdoq.optimise(self, img, weight, symbols, effort=effort, progress=progress)

    def consistent(self, symbols: Symbols) -> Symbols:
        """Return y^ of the symbols, quantised anew: index and mu follow."""
        return self.quantise(self.reconstruct(symbols))

    def encode(self, symbols: Symbols, index_shift: np.ndarray) -> Stream:
        """Return the stream of symbols in the order of wavefronts."""
        tables = scale_adaptation.apply(symbols.index, index_shift, len(self.model.y_tables.low))
        positions = order(*tables.shape[:2])
        y, tables = (a.reshape(-1, a.shape[2])[positions] for a in (symbols.y, tables))
        return encode_stream(y.ravel(), tables.ravel(), self.model.y_tables)

    def decode(self, stream: Stream, index_shift: np.ndarray) -> Symbols:
        """Return the symbols of a stream; BitstreamError if it is damaged."""
        codes, shifts = [self.qstep_code], [index_shift]
        return decode_batch(
            self.model, [stream], [self._psi], codes, shifts, arithmetic=self.arithmetic
        )[0]

    def reconstruct(self, symbols: Symbols) -> np.ndarray:
        """Return y^ from symbols, mu and offsets."""
        return reconstruct_with_offsets(self.model, symbols, self.qstep_code)


def quantise_batch(
    model: FrozenModel,
    y: Sequence[np.ndarray],
    psi: Sequence[np.ndarray],
    qstep_codes: Sequence[int],
    *,
    arithmetic: Arithmetic = INTEGER,
) -> list[Symbols]:
    """Return the symbols of several images' latents, all in one loop.

    y: float32 [h,w,M], one for each image, of any sizes. psi: int32 [h,w,10M/3] each, see
    `WavefrontCoder.psi`. qstep_codes: one for each image.
    """
    source = wavefront_loop.rounded
    return wavefront_loop.run(model, source, 0, None, y, psi, qstep_codes, arithmetic=arithmetic)[1]


def decode_batch(
    model: FrozenModel,
    streams: Sequence[Stream],
    psi: Sequence[np.ndarray],
    qstep_codes: Sequence[int],
    index_shifts: Sequence[np.ndarray],
    *,
    arithmetic: Arithmetic = INTEGER,
) -> list[Symbols]:
    """Return the symbols of several images' streams, all in one loop.

    psi, qstep_codes: as in `quantise_batch`. index_shifts: int32 [M] each.

    Raises:
      BitstreamError: a stream is damaged or of another model.
    """
    sizes = [p.shape[0] * p.shape[1] * model.config.M for p in psi]
    pairs = zip(streams, sizes, strict=True)
    opened = [range_coder.read_states(s.words, n, s.lanes) for s, n in pairs]
    escaped = [escapes.unpack_all(s.escapes) for s in streams]
    for values in escaped:
        escapes.check_limit(values)
    prepared = range_coder.prepare(model.y_tables)
    batch = wavefront_loop.Streams(
        words=_stacked([words for _, words in opened], np.uint16),
        escapes=_stacked(escaped, np.int32),
        lanes=np.array([s.lanes for s in streams], np.int32),
        tables=prepared[1:],
        low=np.asarray(model.y_tables.low),
        index_shift=np.stack(index_shifts).astype(np.int32),
    )
    zeros = [np.zeros(len(streams), np.int32) for _ in range(3)]
    coder = wavefront_loop.Coder(np.stack([state for state, _ in opened]), *zeros)
    no_y = [np.zeros((*p.shape[:2], 0), np.float32) for p in psi]
    source = wavefront_loop.decoded
    coder, symbols = wavefront_loop.run(
        model, source, coder, batch, no_y, psi, qstep_codes, arithmetic=arithmetic
    )
    for b, ((_, words), values) in enumerate(zip(opened, escaped, strict=True)):
        _check_end(coder, b, len(words), len(values))
    return symbols


def _check_end(coder: wavefront_loop.Coder, b: int, words: int, escapes: int) -> None:
    """Raise BitstreamError unless image b took all its words and escape values."""
    range_coder.check_end(int(coder.position[b]), words, np.asarray(coder.state[b]))
    if int(coder.escape[b]) != escapes:
        raise BitstreamError(
            f"damaged stream: {escapes} escape values, {coder.escape[b]} were announced"
        )


def _stacked(rows: list[np.ndarray], kind: type) -> np.ndarray:
    """Return [B,.]: rows filled up with zeros to a power of two."""
    out = np.zeros((len(rows), power_of_two(max(256, *(len(r) for r in rows)))), kind)
    for b, row in enumerate(rows):
        out[b, : len(row)] = row
    return out


@partial(stored, static_argnums=(0,))
def _h_s_psi(config: Config, network: Network, z_hat: Array, valid: Array) -> tuple[Array]:
    return (context.psi_part(config, network, z_hat[None], tuple(valid))[0],)
