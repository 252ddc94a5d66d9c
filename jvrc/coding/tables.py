"""CDF tables: the integer distributions under which the range coder codes symbols.

Symbol s of a table stands for the integer low + s; the last symbol is the escape code, for every
integer that the table does not cover. Frequencies are positive and sum to 2**16 in each table. The
tables are made once, in float64, when a model is frozen; encoder and decoder only read them.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

TOTAL = 2**16  # sum of the frequencies of a table
# A less likely integer is left to the escape code, which costs about as many bits.
_RARE = 2.0**-17
_FIRST_REACH, _LAST_REACH = 8, 2**13  # integers to either side of the centre that a table may cover


class CdfTables(NamedTuple):
    """n tables, stored one after another: table t has freq[start[t] : start[t + 1]]."""

    freq: np.ndarray  # uint16 [total], frequencies
    start: np.ndarray  # int32 [n + 1]
    low: np.ndarray  # int32 [n], the integer that symbol 0 stands for

    def select(self, first: int, count: int) -> "CdfTables":
        """Return the tables first ... first + count - 1."""
        start = np.asarray(self.start[first : first + count + 1])
        freq = np.asarray(self.freq[start[0] : start[-1]])
        return CdfTables(freq, start - start[0], np.asarray(self.low[first : first + count]))


def concatenate(parts: Sequence[CdfTables]) -> CdfTables:
    """Concatenate sets of tables: those of parts[0] come first."""
    return CdfTables(
        freq=np.concatenate([part.freq for part in parts]),
        start=_starts(np.concatenate([np.diff(part.start) for part in parts])),
        low=np.concatenate([part.low for part in parts]).astype(np.int32),
    )


def build(cdfs: list[Callable[[np.ndarray], np.ndarray]], centres: list[int]) -> CdfTables:
    """Return one table for each cumulative distribution function; see `table_from_cdf`."""
    made = [table_from_cdf(f, c) for f, c in zip(cdfs, centres, strict=True)]
    return CdfTables(
        freq=np.concatenate([freq for freq, _ in made]).astype(np.uint16),
        start=_starts([len(freq) for freq, _ in made]),
        low=np.array([low for _, low in made], np.int32),
    )


def integer_frequencies(p: np.ndarray) -> np.ndarray:
    """Return positive integers [n] of sum 2**16, nearly proportional to p [n] >= 0, n >= 2.

    Raises:
      ValueError: the sum of p is zero or not finite.
    """
    total = np.sum(p, dtype=np.float64)
    if not 0 < total < np.inf:
        raise ValueError(f"p must have a positive, finite sum; got {total}: did training diverge?")
    p = np.asarray(p, np.float64) / total
    low, high = 0.0, float(TOTAL)
    for _ in range(60):  # bisect for the scale at which the rounded frequencies have the right sum
        scale = (low + high) / 2
        freq = np.maximum(1, np.rint(p * scale)).astype(np.int64)
        low, high = (scale, high) if freq.sum() < TOTAL else (low, scale)
    freq = np.maximum(1, np.rint(p * low)).astype(np.int64)
    missing = TOTAL - int(freq.sum())  # 0 ... n: several may round up at the same scale
    # One more is worth p * log2(1 + 1 / freq) bits a symbol: give them to those that gain most.
    freq[np.argsort(-p * np.log1p(1 / freq), kind="stable")[:missing]] += 1
    return freq


def table_from_cdf(cdf: Callable[[np.ndarray], np.ndarray], centre: int) -> tuple[np.ndarray, int]:
    """Return (frequencies, low) for the integers k with P(k) = cdf(k + 1/2) - cdf(k - 1/2).

    cdf: maps consecutive points, float64 [n], to float64 [n]. centre: an integer near the peak. The
    table covers the integers around it that are not rare; the escape code has the remaining
    probability.
    """
    reach = _FIRST_REACH
    while True:
        edges = centre + np.arange(-reach, reach + 2) - 0.5
        p = np.diff(cdf(edges))
        common = np.flatnonzero(p >= _RARE)
        inside = common.size and common[0] > 0 and common[-1] < len(p) - 1
        if inside or reach >= _LAST_REACH:
            break
        reach *= 2
    first, last = (common[0], common[-1]) if common.size else (reach, reach)
    kept = np.maximum(p[first : last + 1], 0)
    escape = max(1 - kept.sum(), 0.0)
    return integer_frequencies(np.append(kept, escape)), int(centre - reach + first)


def to_symbols(values: np.ndarray, index: np.ndarray, tables: CdfTables) -> tuple:
    """Return (symbols int32 [n], escape values [k] in order) of integers [n].

    index: int [n], which table each value is coded under.
    """
    symbols = values - np.asarray(tables.low)[index]
    escape = _escape_codes(tables)[index]
    outside = (symbols < 0) | (symbols >= escape)
    return np.where(outside, escape, symbols).astype(np.int32), values[outside]


def escapes_in(symbols: np.ndarray, index: np.ndarray, tables: CdfTables) -> np.ndarray:
    """Return bool [n]: which symbols are escape codes."""
    return symbols == _escape_codes(tables)[index]


def to_values(
    symbols: np.ndarray, index: np.ndarray, tables: CdfTables, escaped: np.ndarray
) -> np.ndarray:
    """Return the integers, int32 [n], of symbols and escape values: the inverse of `to_symbols`."""
    values = symbols + np.asarray(tables.low)[index]
    values[escapes_in(symbols, index, tables)] = escaped
    return values.astype(np.int32)


def bit_costs(tables: CdfTables, values: np.ndarray) -> np.ndarray:
    """Return the bits of integers [n] under each table, float32 [tables,n]; escapes estimated."""
    start, last = np.asarray(tables.start[:-1]), _escape_codes(tables)
    bits = _symbol_bits(tables)
    symbol = values - np.asarray(tables.low)[:, None]
    regular = (symbol >= 0) & (symbol < last[:, None])
    # Of an escape: its code's bits, and a rough guess at those of the varint behind it.
    escaped = bits[start + last][:, None] + 8 + 2 * np.log2(np.maximum(1, np.abs(values)))
    at = start[:, None] + np.clip(symbol, 0, last[:, None])
    return np.where(regular, bits[at], escaped).astype(np.float32)


def ideal_bits(symbols: np.ndarray, index: np.ndarray, tables: CdfTables) -> float:
    """Return the sum of -log2 p over the symbols [n]; escape values are not counted."""
    return float(np.sum(bits_of_each(symbols, index, tables), dtype=np.float64))


def bits_of_each(symbols: np.ndarray, index: np.ndarray, tables: CdfTables) -> np.ndarray:
    """Return -log2 p of each symbol [n], float32; escape values are not counted."""
    return _symbol_bits(tables)[np.asarray(tables.start)[index] + symbols]


def entropies(tables: CdfTables) -> np.ndarray:
    """Return the bits that a symbol of each table takes on average, float64 [tables]."""
    bits = np.asarray(tables.freq, np.float64) / TOTAL * _symbol_bits(tables)
    return np.add.reduceat(bits, np.asarray(tables.start[:-1]))


def _starts(sizes: Sequence[int]) -> np.ndarray:
    """Return where tables of these sizes begin, and the end of the last: int32 [n + 1]."""
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)


def _escape_codes(tables: CdfTables) -> np.ndarray:
    """Return the last symbol of each table."""
    return np.diff(tables.start) - 1


def _symbol_bits(tables: CdfTables) -> np.ndarray:
    """Return -log2 p of every symbol of every table, float32 [total]."""
    return 16 - np.log2(np.asarray(tables.freq, np.float32))
