"""What a search for better symbols minimises on one image: the loss of training, in bits.

    J = bits(q) + lambda * sum over pixels of (x^ - x)²,   lambda = 0.18 / Delta²

x in 0 … 255, squares averaged over the three colours; with masking, each sample's times its weight
(jvrc.codec.tiles.masking). Bits are those of the CDF tables under which symbols are coded,
distortion that of the image decoded, in whole grey levels.
"""

import numpy as np

from jvrc.codec.tiles.latent_coder import LatentCoder, Symbols
from jvrc.codec.tiles.table_choice import choose_tables
from jvrc.codec.transforms.latents import synthesise
from jvrc.coding import escapes, tables
from jvrc.frozen.model import FrozenModel
from jvrc.qstep import qstep_of, rd_lambda

REACH = 64  # integers of larger magnitude are taken to cost what this one costs


def bit_costs(model: FrozenModel) -> np.ndarray:
    """Return the bits of the integers -REACH … REACH in each CDF table: [tables,2 * REACH + 1]."""
    return tables.bit_costs(model.y_tables, np.arange(-REACH, REACH + 1))


def error_weight(qstep: float) -> float:
    """Return what J adds for a squared error of one sample of an image in [0,1]."""
    return rd_lambda(qstep) * 255**2 / 3


def cost(
    coder: LatentCoder, symbols: Symbols, img: np.ndarray, y_hat: np.ndarray, weight: np.ndarray
) -> float:
    """Return J of symbols of y, whose image is decoded from y^.

    img: uint8 [h,w,3]. weight: float32 [h,w,3], or [1,1,1] for all samples, of squared errors.
    """
    symbol_tables = coder.model.y_tables
    table = choose_tables(coder, symbols).tables.ravel()
    coded, escaped = tables.to_symbols(symbols.y.ravel(), table, symbol_tables)
    bits = tables.ideal_bits(coded, table, symbol_tables)
    bits += 8 * len(escapes.pack_escapes(escaped))
    restored = synthesise(coder.model, y_hat, coder.qstep_code)[: img.shape[0], : img.shape[1]]
    error = np.square(restored.astype(np.int32) - img) * weight
    total = float(np.sum(error, dtype=np.float64)) / 3
    return bits + rd_lambda(qstep_of(coder.qstep_code)) * total
