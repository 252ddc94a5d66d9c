"""Integer tables for the range coder, from cumulative distribution functions.

A table covers the integers low … low + size - 2; its last symbol is the escape code for all others.
Frequencies are positive and sum to 2**16 exactly. Tables are made once, when a model is frozen, in
float64; a receiver only reads them.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

TOTAL = 1 << 16
# A value less likely than this is left to the escape code, which costs about as much.
_RARE = 2.0**-17


class SymbolTables(NamedTuple):
    """n tables, flat. Table t has the frequencies freq[start[t] : start[t+1]], the last: escape."""

    freq: np.ndarray  # uint16 [total]
    start: np.ndarray  # int32 [n + 1]
    low: np.ndarray  # int32 [n], the integer that symbol 0 stands for

    def select(self, first: int, count: int) -> "SymbolTables":
        """Tables first … first + count - 1."""
        start = np.asarray(self.start[first : first + count + 1])
        freq = np.asarray(self.freq[start[0] : start[-1]])
        return SymbolTables(freq, start - start[0], np.asarray(self.low[first : first + count]))

    def followed_by(self, *others: "SymbolTables") -> "SymbolTables":
        """These tables, then those."""
        parts = (self, *others)
        sizes = np.concatenate([np.diff(p.start) for p in parts])
        return SymbolTables(
            freq=np.concatenate([p.freq for p in parts]),
            start=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32),
            low=np.concatenate([p.low for p in parts]).astype(np.int32),
        )

    def cdf(self) -> tuple[np.ndarray, np.ndarray]:
        """(cumulative frequencies int32 [total + n], start int32 [n + 1]): 0 … 2**16 per table."""
        n = len(self.low)
        sums = np.concatenate([[0], np.cumsum(np.asarray(self.freq, np.int64))])
        table = np.repeat(np.arange(n), np.diff(self.start) + 1)
        start = np.asarray(self.start) + np.arange(n + 1)
        within = np.arange(len(table)) - table
        return (sums[within] - table * TOTAL).astype(np.int32), start.astype(np.int32)


def integer_frequencies(p: np.ndarray) -> np.ndarray:
    """Positive integers [n] that sum to 2**16 and are nearly proportional to p [n] >= 0, n >= 2."""
    total = np.sum(p, dtype=np.float64)
    if not 0 < total < np.inf:
        raise ValueError(f"p must have a positive, finite sum; got {total}: did training diverge?")
    p = np.asarray(p, np.float64) / total
    low, high = 0.0, float(TOTAL)
    for _ in range(60):  # the scale at which rounding and the floor of one give the right sum
        scale = (low + high) / 2
        freq = np.maximum(1, np.rint(p * scale)).astype(np.int64)
        low, high = (scale, high) if freq.sum() < TOTAL else (low, scale)
    freq = np.maximum(1, np.rint(p * low)).astype(np.int64)
    missing = TOTAL - int(freq.sum())  # 0 … n: ties at the scale of the jump
    freq[np.argsort(-p * np.log1p(1 / freq), kind="stable")[:missing]] += 1
    return freq


def table_from_cdf(cdf: Callable[[np.ndarray], np.ndarray], centre: int) -> tuple[np.ndarray, int]:
    """(frequencies, low) of P(k) = cdf(k + 1/2) - cdf(k - 1/2), k integer, peaked near `centre`.

    cdf maps consecutive points, float64 [n], to float64 [n]. The table grows from the centre to
    both sides until values become rare; the rest is the escape code's.
    """
    reach = 8
    while True:
        edges = centre + np.arange(-reach, reach + 2) - 0.5
        p = np.diff(cdf(edges))
        common = np.flatnonzero(p >= _RARE)
        inside = common.size and common[0] > 0 and common[-1] < len(p) - 1
        if inside or reach >= 1 << 13:
            break
        reach *= 2
    first, last = (common[0], common[-1]) if common.size else (reach, reach)
    kept = np.maximum(p[first : last + 1], 0)
    escape = max(1 - kept.sum(), 0.0)
    return integer_frequencies(np.append(kept, escape)), int(centre - reach + first)


def build(cdfs: list[Callable[[np.ndarray], np.ndarray]], centres: list[int]) -> SymbolTables:
    """One table for each cumulative distribution function."""
    made = [table_from_cdf(f, c) for f, c in zip(cdfs, centres, strict=True)]
    sizes = [len(freq) for freq, _ in made]
    return SymbolTables(
        freq=np.concatenate([freq for freq, _ in made]).astype(np.uint16),
        start=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32),
        low=np.array([low for _, low in made], np.int32),
    )


def to_symbols(values: np.ndarray, index: np.ndarray, tables: SymbolTables) -> tuple:
    """Integers -> (symbols int32 [n], escaped values int32 [k], in order). Flat arrays [n]."""
    symbols = values - np.asarray(tables.low)[index]
    escape = (np.diff(tables.start) - 1)[index]
    outside = (symbols < 0) | (symbols >= escape)
    return np.where(outside, escape, symbols).astype(np.int32), values[outside]


def escapes_in(symbols: np.ndarray, index: np.ndarray, tables: SymbolTables) -> np.ndarray:
    """bool [n]: which symbols are escape codes."""
    return symbols == (np.diff(tables.start) - 1)[index]


def to_values(
    symbols: np.ndarray, index: np.ndarray, tables: SymbolTables, escaped: np.ndarray
) -> np.ndarray:
    """The inverse of `to_symbols`: int32 [n]."""
    values = symbols + np.asarray(tables.low)[index]
    values[escapes_in(symbols, index, tables)] = escaped
    return values.astype(np.int32)


def bit_costs(tables: SymbolTables, values: np.ndarray) -> np.ndarray:
    """Bits of the integers [n] under each table, what escapes take included: float32 [tables,n]."""
    start, last = np.asarray(tables.start[:-1]), np.diff(tables.start) - 1
    bits = 16 - np.log2(np.asarray(tables.freq, np.float32))
    symbol = values - np.asarray(tables.low)[:, None]
    regular = (symbol >= 0) & (symbol < last[:, None])
    escaped = bits[start + last][:, None] + 8 + 2 * np.log2(np.maximum(1, np.abs(values)))  # about
    at = start[:, None] + np.clip(symbol, 0, last[:, None])
    return np.where(regular, bits[at], escaped).astype(np.float32)


def ideal_bits(symbols: np.ndarray, index: np.ndarray, tables: SymbolTables) -> float:
    """Sum of -log2 p over the symbols [n] (escaped values themselves not counted)."""
    cost = 16 - np.log2(np.asarray(tables.freq, np.float32))
    return float(np.sum(cost[np.asarray(tables.start)[index] + symbols], dtype=np.float64))
