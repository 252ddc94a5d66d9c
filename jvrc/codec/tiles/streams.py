"""Integers to the streams of a file and back, under the tables of a frozen model.

A value that its table lacks is coded as the escape code, and stored beside the range coder's words.
"""

import numpy as np

from jvrc.coding import escapes, range_coder, scale_adaptation, tables
from jvrc.coding.container import Stream, Tile
from jvrc.coding.tables import CdfTables
from jvrc.errors import BitstreamError
from jvrc.frozen.model import FrozenModel
from jvrc.qstep import qstep_row


def encode_stream(values: np.ndarray, index: np.ndarray, symbol_tables: CdfTables) -> Stream:
    """Return the stream of integers [n], each under the table that `index`, int [n], names."""
    symbols, escaped = tables.to_symbols(values, index, symbol_tables)
    expected = tables.ideal_bits(symbols, index, symbol_tables) / 8
    lanes = range_coder.choose_lanes(expected)
    words = range_coder.encode(symbols, index, range_coder.prepare(symbol_tables), lanes)
    return Stream(words, escapes.pack_escapes(escaped), lanes)


def decode_stream(stream: Stream, index: np.ndarray, symbol_tables: CdfTables) -> np.ndarray:
    """Return the integers, int32 [n], of a stream; BitstreamError if it is damaged."""
    reader = StreamReader(stream, index.size, symbol_tables)
    values = reader.take(index)
    reader.finish()
    return values


class StreamReader:
    """A stream of n integers, taken part by part; all methods raise BitstreamError if damaged."""

    def __init__(self, stream: Stream, n: int, symbol_tables: CdfTables) -> None:
        self._tables = symbol_tables
        prepared = range_coder.prepare(symbol_tables)
        self._symbols = range_coder.Decoder(stream.words, n, prepared, stream.lanes)
        self._escaped = escapes.unpack_escapes(stream.escapes)
        escapes.check_limit(self._escaped)

    def take(self, index: np.ndarray) -> np.ndarray:
        """Return the next integers, int32 [m]; index, int [m]: the table of each."""
        symbols = self._symbols.take(index)
        outside = tables.escapes_in(symbols, index, self._tables)
        count = int(np.count_nonzero(outside))
        escaped, self._escaped = self._escaped[:count], self._escaped[count:]
        if len(escaped) < count:
            raise BitstreamError(f"damaged stream: {len(escaped)} of {count} escape values")
        return tables.to_values(symbols, index, self._tables, escaped)

    def finish(self) -> None:
        """Check that the stream ends behind the integers taken."""
        self._symbols.finish()
        if len(self._escaped):
            raise BitstreamError(
                f"damaged stream: {len(self._escaped)} escape values are left over"
            )


def encode_z(
    model: FrozenModel, z_q: np.ndarray, index_shift: np.ndarray, qstep_code: int
) -> Stream:
    """Return the stream of z's integers [H/64,W/64,N] and, unless all are 0, of the shifts [M]."""
    adapted = bool(index_shift.any())
    values = np.concatenate([z_q.ravel(), index_shift]) if adapted else z_q.ravel()
    return encode_stream(values, *_z_tables(model, qstep_code, z_q.shape[:2], adapted))


def z_bits(model: FrozenModel, z_q: np.ndarray, qstep_code: int) -> float:
    """Return the ideal bits of z's integers [h,w,N], without escape values."""
    index, found = _z_tables(model, qstep_code, z_q.shape[:2], adapted=False)
    return tables.ideal_bits(tables.to_symbols(z_q.ravel(), index, found)[0], index, found)


def decode_z(
    model: FrozenModel, tile: Tile, blocks: tuple[int, int], qstep_code: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return (z's integers [*blocks,N], shifts of the scale indices of y [M]), int32.

    blocks: of 64x64 pixels, H/64 and W/64.

    Raises:
      BitstreamError: the stream is damaged.
    """
    n, m = model.config.N, model.config.M
    values = decode_stream(tile.z, *_z_tables(model, qstep_code, blocks, tile.scale_adapted))
    index_shift = values[-m:] if tile.scale_adapted else np.zeros(m, np.int32)
    return values[: blocks[0] * blocks[1] * n].reshape(*blocks, n), index_shift


def _z_tables(
    model: FrozenModel, qstep_code: int, blocks: tuple[int, int], adapted: bool
) -> tuple[np.ndarray, CdfTables]:
    """Return (the table of each symbol of the z stream, the tables)."""
    n = model.config.N
    found = model.z_tables.select(int(model.z_step_index[qstep_row(qstep_code)]) * n, n)
    channels = np.tile(np.arange(n, dtype=np.int32), blocks[0] * blocks[1])
    if not adapted:
        return channels, found
    index = np.concatenate([channels, np.full(model.config.M, n, np.int32)])
    return index, tables.concatenate([found, scale_adaptation.table()])
