"""Which CDF tables the symbols of a tile are coded under: the encoder's choice.

It may refine scale indices by symbols decoded before (jvrc.integer.scale_refinement), and shift
them channel by channel (jvrc.coding.scale_adaptation).
"""

from functools import partial

import numpy as np

from jvrc.codec.tiles.latent_coder import LatentCoder, Symbols, TableChoice
from jvrc.coding import scale_adaptation
from jvrc.coding.container import REFINEMENT_BYTES
from jvrc.coding.tables import CdfTables, bit_costs

_LARGEST = 15  # larger |q|, which are few, count as this one where two choices are compared


def choose_tables(coder: LatentCoder, symbols: Symbols) -> TableChoice:
    """Return the tables of symbols, by refined scale indices where these take fewer bits."""
    y_tables, index = coder.model.y_tables, coder.refined(symbols)
    plain = shifted_tables(y_tables, symbols.y, symbols.index)
    if index is None:
        return plain
    other = shifted_tables(y_tables, symbols.y, index)._replace(refined=True)
    bits = partial(_bits, y_tables, symbols.y)
    return other if bits(other) + 8 * REFINEMENT_BYTES < bits(plain) else plain


def shifted_tables(y_tables: CdfTables, y: np.ndarray, index: np.ndarray) -> TableChoice:
    """Return the tables of integers, int [h,w,M], by scale indices and the best shifts of them."""
    index_shift = scale_adaptation.choose(y, index, y_tables)
    tables = scale_adaptation.apply(index, index_shift, len(y_tables.low))
    return TableChoice(tables, index_shift, refined=False)


def _bits(y_tables: CdfTables, y: np.ndarray, choice: TableChoice) -> float:
    """Return the bits of integers and shifts, to compare choices by."""
    magnitude = np.minimum(np.abs(y), _LARGEST)
    cost = bit_costs(y_tables, np.arange(_LARGEST + 1)).astype(np.float32)
    bits = np.sum(cost[choice.tables, magnitude], dtype=np.float64)
    return float(bits) + scale_adaptation.side_bits(choice.index_shift)
