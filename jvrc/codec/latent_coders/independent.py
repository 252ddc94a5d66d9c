"""The latent coder of models in which sigma and mu depend on z alone (both hyperpriors).

All symbols of y are coded at once, in row-major order.
"""

from copy import copy
from functools import partial
from typing import Self

import numpy as np
from jax import Array

from jvrc.codec.effort import rdoq
from jvrc.codec.tiles.latent_coder import Symbols, TableChoice, reconstruct_with_offsets
from jvrc.codec.tiles.scene import Scene
from jvrc.codec.tiles.streams import decode_stream, encode_stream
from jvrc.codec.transforms.latents import hyper_synthesis_tiles, round_to_symbols
from jvrc.coding import scale_adaptation
from jvrc.coding.container import Stream
from jvrc.frozen.model import FrozenModel
from jvrc.integer import hyper_synthesis
from jvrc.integer.network import Network
from jvrc.model.config import Config
from jvrc.qstep import qstep_of
from jvrc.runtime.programs import stored


class IndependentCoder:
    """Implements jvrc.codec.tiles.latent_coder.LatentCoder and jvrc.codec.effort.rdoq.Coder."""

    rdoq_rounds = 1

    def __init__(self, model: FrozenModel, z_q: np.ndarray, qstep_code: int) -> None:
        self.model, self.qstep_code = model, qstep_code
        self._log_sigma, self._mu = self.entropy_parameters(z_q)
        self._index = hyper_synthesis.scale_index(self._log_sigma, qstep_code)

    def at(self, qstep_code: int) -> Self:
        """Return the coder of the same z^ at another step."""
        found = copy(self)
        found.qstep_code = qstep_code
        found._index = hyper_synthesis.scale_index(self._log_sigma, qstep_code)
        return found

    def entropy_parameters(self, z_q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (log2 sigma int16, mu float32), each [H/16,W/16,M], by the integer h_s."""
        log_sigma, mu = hyper_synthesis_tiles(_h_s, self.model, z_q, self.qstep_code)
        return log_sigma, mu

    def quantise(self, y: np.ndarray) -> Symbols:
        """Return q = round((y - mu) / Delta)."""
        qstep = np.float32(qstep_of(self.qstep_code))
        return Symbols(round_to_symbols((y - self._mu) / qstep), self._index, self._mu)

    def scale_indices(self, y: np.ndarray) -> np.ndarray:
        """Return the scale indices, which don't depend on y."""
        return self._index

    def optimise(
        self, scene: Scene, symbols: Symbols, *, effort: int, progress: bool = False
    ) -> Symbols:
        """Return symbols of a smaller J, by RDOQ."""
        img, weight = scene.tile_img, scene.tile_weight
        return rdoq.optimise(self, img, weight, symbols, effort=effort, progress=progress)

    def consistent(self, symbols: Symbols) -> Symbols:
        """Return the same symbols: index and mu do not depend on them."""
        return symbols

    def refined(self, symbols: Symbols) -> np.ndarray | None:
        """Return None: scales depend on z alone."""
        return None

    def encode(self, symbols: Symbols, choice: TableChoice) -> Stream:
        """Return the stream of symbols in row-major order."""
        return encode_stream(symbols.y.ravel(), choice.tables.ravel(), self.model.y_tables)

    def decode(self, stream: Stream, index_shift: np.ndarray, *, refined: bool = False) -> Symbols:
        """Return the symbols of a stream; BitstreamError if it is damaged."""
        tables = scale_adaptation.apply(self._index, index_shift, len(self.model.y_tables.low))
        y = decode_stream(stream, tables.ravel(), self.model.y_tables)
        return Symbols(y.reshape(tables.shape), self._index, self._mu)

    def reconstruct(self, symbols: Symbols) -> np.ndarray:
        """Return y^ from symbols, mu and offsets."""
        return reconstruct_with_offsets(self.model, symbols, self.qstep_code)


@partial(stored, static_argnums=(0,))
def _h_s(config: Config, network: Network, z_hat: Array, valid: Array) -> tuple[Array, Array]:
    """Return (log2 sigma int16, mu float32) of a tile."""
    log_sigma, mu = hyper_synthesis.synthesise(config, network, z_hat[None], tuple(valid))
    packed = hyper_synthesis.packed_log_sigma(log_sigma[0])
    return packed, hyper_synthesis.mu_of(network, mu[0])
