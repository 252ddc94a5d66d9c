"""The latent coder of mbt2018, whose sigma and mu depend on the latents coded before.

All positions of a wavefront (jvrc.codec.latent_coders.wavefront_order) are coded at once, in one
loop (jvrc.codec.latent_coders.wavefront_loop).
"""

from copy import copy
from functools import partial
from typing import Any, Self

import numpy as np
from jax import Array

from jvrc.codec.effort import rdoq
from jvrc.codec.latent_coders import wavefront_loop
from jvrc.codec.latent_coders.wavefront_loop import INTEGER, Arithmetic
from jvrc.codec.latent_coders.wavefront_order import order, power_of_two
from jvrc.codec.tiles.latent_coder import Symbols, TableChoice, reconstruct_with_offsets
from jvrc.codec.tiles.scene import Scene
from jvrc.codec.tiles.streams import encode_stream
from jvrc.codec.transforms.latents import hyper_synthesis_tiles
from jvrc.coding import escapes, range_coder
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
        return self._run(wavefront_loop.rounded, 0, None, y)[1]

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

    def refined(self, symbols: Symbols) -> np.ndarray | None:
        """Return None: scale indices depend on earlier symbols as they are."""
        return None

    def encode(self, symbols: Symbols, choice: TableChoice) -> Stream:
        """Return the stream of symbols in the order of wavefronts."""
        positions = order(*symbols.y.shape[:2])
        both = (symbols.y, choice.tables)
        y, tables = (a.reshape(-1, a.shape[2])[positions] for a in both)
        return encode_stream(y.ravel(), tables.ravel(), self.model.y_tables)

    def decode(self, stream: Stream, index_shift: np.ndarray, *, refined: bool = False) -> Symbols:
        """Return the symbols of a stream; BitstreamError if it is damaged or of another model."""
        count = self._psi.shape[0] * self._psi.shape[1] * self.model.config.M
        state, words = range_coder.read_states(stream.words, count, stream.lanes)
        escaped = escapes.unpack_escapes(stream.escapes)
        escapes.check_limit(escaped)
        coded = wavefront_loop.Coded(
            words=_filled_up(words, np.uint16),
            escapes=_filled_up(escaped, np.int32),
            lanes=np.int32(stream.lanes),
            tables=range_coder.prepare(self.model.y_tables)[1:],
            low=np.asarray(self.model.y_tables.low),
            index_shift=index_shift.astype(np.int32),
        )
        coder = wavefront_loop.DecoderState(state, *[np.int32(0)] * 3)
        no_y = np.zeros((*self._psi.shape[:2], 0), np.float32)
        coder, symbols = self._run(wavefront_loop.decoded, coder, coded, no_y)
        _check_end(coder, len(words), len(escaped))
        return symbols

    def reconstruct(self, symbols: Symbols) -> np.ndarray:
        """Return y^ from symbols, mu and offsets."""
        return reconstruct_with_offsets(self.model, symbols, self.qstep_code)

    def _run(
        self,
        source: wavefront_loop.Source,
        carry: Any,
        coded: wavefront_loop.Coded | None,
        y: np.ndarray,
    ) -> tuple[Any, Symbols]:
        given = (coded, y, self._psi, self.qstep_code)
        return wavefront_loop.run(self.model, source, carry, *given, arithmetic=self.arithmetic)


def _check_end(coder: wavefront_loop.DecoderState, words: int, escapes: int) -> None:
    """Raise BitstreamError unless the decoder took all words and escape values."""
    range_coder.check_end(int(coder.position), words, np.asarray(coder.state))
    if int(coder.escape) != escapes:
        raise BitstreamError(
            f"damaged stream: {escapes} escape values, {coder.escape} were announced"
        )


def _filled_up(values: np.ndarray, kind: type) -> np.ndarray:
    """Return values [n] filled up with zeros to a power of two."""
    out = np.zeros(power_of_two(max(256, len(values))), kind)
    out[: len(values)] = values
    return out


@partial(stored, static_argnums=(0,))
def _h_s_psi(config: Config, network: Network, z_hat: Array, valid: Array) -> tuple[Array]:
    return (context.psi_part(config, network, z_hat[None], tuple(valid))[0],)
