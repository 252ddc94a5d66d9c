"""The contract for coding y, which each architecture fulfils in its own way.

A latent coder is made for one tile of an image: from the model, the integers of z and the step. It
knows what h_s says of y, and does eight things:

    at             the coder of the same z^ at another step: h_s need not run again
    quantise       y -> symbols            encoder
    scale_indices  y -> scale indices      encoder, to estimate rates
    optimise       symbols -> better ones  encoder, with effort
    refined        symbols -> indices      encoder, where scales are refined by earlier symbols
    encode         symbols -> stream       encoder
    decode         stream -> symbols       decoder, on integers alone: exact on every machine
    reconstruct    symbols -> y^           both

Implementations: jvrc.codec.latent_coders, where `by_architecture` chooses.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol, Self

import numpy as np

from jvrc.codec.tiles.scene import Scene
from jvrc.coding.container import Stream
from jvrc.frozen.model import FrozenModel
from jvrc.model.variable_rate import reconstruct
from jvrc.qstep import qstep_of

_ROWS = 64  # of latents reconstructed at a time, so that temporary arrays stay small


class Symbols(NamedTuple):
    """The integers of y, and what the model predicted for each."""

    y: np.ndarray  # int32 [H/16,W/16,M], q = round((y - mu) / Delta)
    index: np.ndarray  # uint8 [H/16,W/16,M], index of the scale sigma / Delta
    mu: np.ndarray  # float32 [H/16,W/16,M], an integer times a power of two


class TableChoice(NamedTuple):
    """Under which CDF tables the symbols of a tile are coded."""

    tables: np.ndarray  # uint8 [H/16,W/16,M]
    index_shift: np.ndarray  # int32 [M], in them already (jvrc.coding.scale_adaptation)
    refined: bool  # whether they come from refined scale indices


class LatentCoder(Protocol):
    """Quantises, codes and reconstructs y of one tile."""

    model: FrozenModel
    qstep_code: int

    def at(self, qstep_code: int) -> Self:
        """Return the coder of the same z^ at another step."""
        ...

    def quantise(self, y: np.ndarray) -> Symbols:
        """Return the symbols nearest to y, float32 [H/16,W/16,M]."""
        ...

    def scale_indices(self, y: np.ndarray) -> np.ndarray:
        """Return the scale indices of the symbols nearest to y, uint8 [H/16,W/16,M]."""
        ...

    def optimise(
        self, scene: Scene, symbols: Symbols, *, effort: int, progress: bool = False
    ) -> Symbols:
        """Return symbols of a smaller J (jvrc.codec.effort.objective), or those given.

        symbols: those nearest to y of the scene's tile.
        """
        ...

    def refined(self, symbols: Symbols) -> np.ndarray | None:
        """Return refined scale indices, uint8 [H/16,W/16,M]; None if the model refines none."""
        ...

    def encode(self, symbols: Symbols, choice: TableChoice) -> Stream:
        """Return the stream of symbols."""
        ...

    def decode(self, stream: Stream, index_shift: np.ndarray, *, refined: bool) -> Symbols:
        """Return the symbols of a stream that `encode` made; BitstreamError if it is damaged.

        index_shift, refined: those of its TableChoice.
        """
        ...

    def reconstruct(self, symbols: Symbols) -> np.ndarray:
        """Return y^, float32 [H/16,W/16,M], that g_s makes the image of."""
        ...


# (model, integers of z [H/64,W/64,N], qstep code) -> the coder of one tile's y
CoderOf = Callable[[FrozenModel, np.ndarray, int], LatentCoder]


def reconstruct_with_offsets(model: FrozenModel, symbols: Symbols, qstep_code: int) -> np.ndarray:
    """Return y^ = mu + Delta * sign(q) * (|q| - delta): float32 [H/16,W/16,M]."""
    qstep = np.float32(qstep_of(qstep_code))
    y_hat = np.empty(symbols.y.shape, np.float32)
    for begin in range(0, len(y_hat), _ROWS):
        y, index, mu = (part[begin : begin + _ROWS] for part in symbols)
        delta = model.delta(index, qstep_code)
        y_hat[begin : begin + _ROWS] = reconstruct(y.astype(np.float32), mu, qstep, delta)
    return y_hat
