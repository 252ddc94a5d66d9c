"""The search for the blocks of one tile to patch (see jvrc.codec.patches.patched_tiles)."""

from dataclasses import replace
from functools import cached_property

import numpy as np

from jvrc.codec.patches.block_errors import squared_errors
from jvrc.codec.patches.fill import without
from jvrc.codec.patches.pixels import PatchPixels
from jvrc.codec.tiles.analysed import AnalysedImage
from jvrc.codec.tiles.latent_coder import CoderOf
from jvrc.codec.tiles.scene import Scene
from jvrc.codec.tiles.tile_coder import QuantisedTile, encode_tile, quantise_tile
from jvrc.coding import tables
from jvrc.coding.tile_grid import BLOCK, Y_UNIT
from jvrc.qstep import qstep_of

_SIMPLE_DETAIL, _DETAIL = 60.0, 600.0  # of blocks below the floor, at least
_ENERGY = 0.9  # of such blocks, as a share of the squared error that the floor allows, at least
_FLAT_ENERGY = 1.0  # a flat block may be of a colour that the model does not reach
_WORTH = 0.5  # of the model's cost, at most: what plain coding takes of blocks that are looked at
_SAVED = 0.02  # of a tile's bits, at least, where no block is below the floor
_MANY = 0.5  # of a tile's blocks: where so many are patched, all may be


class Search:
    """The search for the blocks of a tile to patch. Masks of blocks are bool [rows,columns]."""

    def __init__(self, analysed: AnalysedImage, number: int, qstep_code: int) -> None:
        self._analysed, self._number, self._qstep_code = analysed, number, qstep_code
        pixels, seen = analysed.pixels(number), analysed.statistics(number)
        config = analysed.model.config
        self.pixels = PatchPixels(pixels, seen, qstep_of(qstep_code), config)

    @cached_property
    def scene(self) -> Scene:
        """The tile and what lies around it."""
        return self._analysed.scene(self._number)

    @property
    def _inside(self) -> np.ndarray:
        """The share of each block that lies in the image: energies are of its padding too."""
        return self.pixels.seen.pixels / BLOCK**2

    def suspects(self, found: QuantisedTile) -> np.ndarray:
        """Return the blocks that may have to be patched, or for which it may pay."""
        seen, inside = self.pixels.seen, self._inside
        low = seen.detail > inside * np.where(seen.simple, _SIMPLE_DETAIL, _DETAIL)
        low &= seen.energy > inside * _ENERGY * self.pixels.floor
        if not seen.simple.any():
            return low
        flat = seen.energy < _FLAT_ENERGY
        quantiser = 5 * qstep_of(self._qstep_code) ** 2
        error = np.minimum(seen.energy, seen.detail + quantiser) * seen.pixels
        most = bits_about(found) + self.pixels.error_weight * error
        pays = self.pixels.cost < _WORTH * most
        return low | pays | (seen.simple & (flat | around(low)))

    def disturbed(self, blocks: np.ndarray) -> np.ndarray:
        """Return the blocks beside patched ones that may have come below the floor by that."""
        seen = self.pixels.seen
        able = (seen.energy > self._inside * 0.5 * self.pixels.floor) | seen.simple
        return around(blocks) & able

    def errors(self, found: QuantisedTile, asked: np.ndarray) -> np.ndarray:
        """Return the squared error of each block asked for, 0 of others."""
        if not asked.any():
            return np.zeros(asked.shape)
        y_hat = found.coder.reconstruct(found.symbols)
        return squared_errors(self._analysed.model, self.scene, y_hat, asked, self._qstep_code)

    def failing(self, found: QuantisedTile, asked: np.ndarray) -> np.ndarray:
        """Return those of the blocks asked for that are below the floor."""
        return self.errors(found, asked) > self.pixels.floor

    def choose(self, found: QuantisedTile, asked: np.ndarray) -> np.ndarray:
        """Return those of the blocks asked for that must be patched, or for which it pays."""
        if not asked.any():
            return asked
        errors = self.errors(found, asked)
        failing = errors > self.pixels.floor
        bits = model_bits(found)
        model_cost = bits + self.pixels.error_weight * errors * self.pixels.seen.pixels
        chosen = failing | (self.pixels.cost < model_cost)
        if failing.any() or not chosen.any():
            return chosen
        saved = model_cost[chosen].sum() - 8 * len(self.pixels.patch(chosen))
        return chosen & (saved > _SAVED * bits.sum())

    def cheaper(self, found: QuantisedTile, blocks: np.ndarray, coder_of: CoderOf) -> QuantisedTile:
        """Return a tile with a patch, or one that is patched all over if that takes fewer bytes."""
        if blocks.mean() < _MANY or blocks.all():
            return found
        everywhere = np.ones_like(blocks)
        data = self.pixels.patch(everywhere)
        tile = encode_tile(found)
        if len(data) > sum(map(len, (*tile.z[:2], *tile.y[:2], tile.patch))):
            return found
        model = self._analysed.model
        y = without(model, self.scene, everywhere).tile_y
        return replace(quantise_tile(model, y, self._qstep_code, coder_of), patch=data)


def bits_about(found: QuantisedTile) -> np.ndarray:
    """Return the bits of y of each block, float32 [rows,columns], without scale adaptation."""
    return _bits_of(found, found.symbols.index)


def model_bits(found: QuantisedTile) -> np.ndarray:
    """Return the bits of y of each block of a tile, float32 [rows,columns]."""
    return _bits_of(found, found.choice.tables)


def _bits_of(found: QuantisedTile, table: np.ndarray) -> np.ndarray:
    y, y_tables = found.symbols.y, found.coder.model.y_tables
    coded, _ = tables.to_symbols(y.ravel(), table.ravel(), y_tables)
    bits = tables.bits_of_each(coded, table.ravel(), y_tables).reshape(y.shape)
    height, width, channels = bits.shape
    shape = (height // Y_UNIT, Y_UNIT, width // Y_UNIT, Y_UNIT, channels)
    return bits.reshape(shape).sum(axis=(1, 3, 4))


def around(blocks: np.ndarray) -> np.ndarray:
    """Return blocks, bool [rows,columns], and their neighbours."""
    padded, (rows, columns) = np.pad(blocks, 1), blocks.shape
    shifts = [(i, j) for i in range(3) for j in range(3)]
    return np.any([padded[i : i + rows, j : j + columns] for i, j in shifts], axis=0)
