"""One tile of a file: coded as if it were an image of its own, from y on.

    y -> h_a -> z -> round -> z stream
    |                |
    |                z^ -> h_s -> (scale index, mu)
    v                               |
    q = round((y - mu) / Delta) ----+-> y stream

The decoder walks the lower half. Both see zeros outside of the tile, so a tile decodes from its
section alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from jvrc.codec.tiles import back_projection, masking
from jvrc.codec.tiles.analysed import AnalysedImage
from jvrc.codec.tiles.latent_coder import CoderOf, LatentCoder, Symbols, TableChoice
from jvrc.codec.tiles.options import EncoderOptions
from jvrc.codec.tiles.scene import Scene
from jvrc.codec.tiles.streams import decode_z, encode_z
from jvrc.codec.tiles.table_choice import choose_tables
from jvrc.codec.transforms.latents import analyse_latents, quantise_z
from jvrc.codec.transforms.regions import window_of
from jvrc.coding import patch
from jvrc.coding.container import Container, Tile
from jvrc.coding.tile_grid import Y_UNIT, Area
from jvrc.errors import BitstreamError
from jvrc.frozen.model import FrozenModel


@dataclass(frozen=True, eq=False)
class QuantisedTile:
    """The integers of a tile, and what codes and reconstructs those of y."""

    z_q: np.ndarray  # int32 [h,w,N]
    symbols: Symbols  # of y, [4h,4w,M]
    coder: LatentCoder | None  # None: without streams, y^ is zero
    patch: bytes = b""  # pixels that are coded without the model (jvrc.coding.patch)

    @property
    def y_hat(self) -> np.ndarray:
        """What g_s makes the image of, float32 [4h,4w,M]."""
        return self.coder.reconstruct(self.symbols) if self.coder else self.symbols.mu

    @cached_property
    def choice(self) -> TableChoice:
        """The tables that suit the symbols best."""
        return choose_tables(self.coder, self.symbols)


def quantise_tile(
    model: FrozenModel, y: np.ndarray, qstep_code: int, coder_of: CoderOf
) -> QuantisedTile:
    """Return the integers nearest to the latents of a tile; y: float32 [4h,4w,M]."""
    return quantise_latents(model, y, analyse_latents(model, y), qstep_code, coder_of)


def quantise_analysed(
    analysed: AnalysedImage, number: int, qstep_code: int, options: EncoderOptions
) -> QuantisedTile:
    """Return the integers nearest to the latents of a tile of an image, corrected where it pays."""
    model, (y, z) = analysed.model, analysed.latents(number)
    d = analysed.correction(number) if _corrects(model, qstep_code, options) else None
    return quantise_latents(model, y, z, qstep_code, options.coder_of, d)


def quantise_scene(
    model: FrozenModel, scene: Scene, qstep_code: int, options: EncoderOptions
) -> QuantisedTile:
    """Return the integers nearest to the latents of a scene's tile, corrected where it pays."""
    y, corrects = scene.tile_y, _corrects(model, qstep_code, options)
    d = back_projection.correction(model, scene) if corrects else None
    return quantise_latents(model, y, analyse_latents(model, y), qstep_code, options.coder_of, d)


def _corrects(model: FrozenModel, qstep_code: int, options: EncoderOptions) -> bool:
    """Return whether y is corrected before it is quantised; searches begin at y itself."""
    return not options.effort and back_projection.pays(model.config, qstep_code)


def quantise_latents(
    model: FrozenModel,
    y: np.ndarray,
    z: np.ndarray,
    qstep_code: int,
    coder_of: CoderOf,
    d: np.ndarray | None = None,
) -> QuantisedTile:
    """Return the integers nearest to y and to z = h_a(y), float32 [h,w,N].

    d: of y, which is corrected by it (jvrc.codec.tiles.back_projection).
    """
    z_q = quantise_z(model, z, qstep_code)
    coder = coder_of(model, z_q, qstep_code)
    if d is not None:
        y = back_projection.corrected(y, d, coder.scale_indices(y), qstep_code)
    return QuantisedTile(z_q, coder.quantise(y), coder)


def with_better_symbols(
    found: QuantisedTile, scene: Scene, options: EncoderOptions, spared: np.ndarray
) -> QuantisedTile:
    """Return a tile with symbols of a smaller J, searched with the effort of the options.

    spared: the blocks, bool [rows,columns], in which masking makes no error count less.
    """
    if options.masking:
        scene = masking.masked(scene, spared)
    search = {"effort": options.effort, "progress": options.progress}
    return replace(found, symbols=found.coder.optimise(scene, found.symbols, **search))


def encode_tile(quantised: QuantisedTile) -> Tile:
    """Return the streams of a tile, and its patch."""
    coder, choice = quantised.coder, quantised.choice
    return Tile(
        scale_adapted=bool(choice.index_shift.any()),
        z=encode_z(coder.model, quantised.z_q, choice.index_shift, coder.qstep_code),
        y=coder.encode(quantised.symbols, choice),
        patch=quantised.patch,
        refined=choice.refined,
    )


def decode_tile(
    model: FrozenModel,
    coded: Container,
    number: int,
    coder_of: CoderOf,
    tile: Tile | None = None,
) -> QuantisedTile:
    """Return the integers of a tile of a file; zeros of one without streams, patched all over.

    tile: that of the number, if it has been read already.

    Raises:
      BitstreamError: it is damaged; the message names it.
    """
    tile = tile or coded.tiles[number]
    blocks = coded.grid.area(number).size
    try:
        if not tile.has_streams and tile.patch and patch.blocks_in(tile.patch, blocks).all():
            return _zeros(model, blocks)
        z_q, index_shift = decode_z(model, tile, blocks, coded.qstep_code)
        coder = coder_of(model, z_q, coded.qstep_code)
        symbols = coder.decode(tile.y, index_shift, refined=tile.refined)
        return QuantisedTile(z_q, symbols, coder)
    except BitstreamError as error:
        raise BitstreamError(f"{coded.name_of(number)}: {error}") from error


def _zeros(model: FrozenModel, blocks: tuple[int, int]) -> QuantisedTile:
    shape = (blocks[0] * Y_UNIT, blocks[1] * Y_UNIT, model.config.M)
    symbols = Symbols(*(np.zeros(shape, kind) for kind in (np.int32, np.uint8, np.float32)))
    return QuantisedTile(np.zeros((*blocks, model.config.N), np.int32), symbols, None)


YHatOf = Callable[[int, Tile], np.ndarray]  # the number of a tile, and it -> y^ of it


def y_hat_by(model: FrozenModel, coded: Container, coder_of: CoderOf) -> YHatOf:
    """Return what decodes a tile of an image to its y^."""
    return lambda number, tile: decode_tile(model, coded, number, coder_of, tile).y_hat


class ReconstructedTiles:
    """y^ of the areas that g_s is about to need, of which few tiles are held at a time."""

    def __init__(
        self, model: FrozenModel, coded: Container, y_hat_of: YHatOf, areas: list[Area]
    ) -> None:
        """areas: of the image's blocks, in the order in which `around` is going to be asked."""
        self._model, self._coded, self._y_hat_of = model, coded, y_hat_of
        self._held: dict[int, np.ndarray] = {}
        self._patches: dict[int, bytes] = {}
        self._last_use = {
            number: area
            for area in areas
            for number in coded.grid.touching(window_of(model.config, area, coded.grid.blocks))
        }

    def around(self, area: Area) -> np.ndarray:
        """Return y^, float32 [4h,4w,M], of an area and its margin; drop what it was needed for."""
        grid = self._coded.grid
        window = window_of(self._model.config, area, grid.blocks)
        height, width = window.scaled(Y_UNIT).size
        y_hat = np.empty((height, width, self._model.config.M), np.float32)
        for number in grid.touching(window):
            tile = grid.area(number)
            part = tile.common(window)
            found = self._tile(number)[part.within(tile, Y_UNIT)]
            y_hat[part.within(window, Y_UNIT)] = found
            if self._last_use[number] == area:
                del self._held[number]
        return y_hat

    def patch(self, number: int) -> bytes:
        """Return the patch of a tile that `around` has needed; b"" if it has none."""
        return self._patches.pop(number)

    def _tile(self, number: int) -> np.ndarray:
        if number not in self._held:
            tile = self._coded.tiles[number]
            self._patches[number] = tile.patch
            self._held[number] = self._y_hat_of(number, tile)
        return self._held[number]
