"""Speed and size of jvrc.coding.range_coder beside the constriction package (Rust).

    python tests/benchmarks/bench_range_coder.py          needs: pip install constriction

Codes as many symbols as a 768×512 photo's latent has (491,520; about 59 kB) under 64 Gaussian
tables, scales 0.11 ... 256. Takes ten seconds; medians of rounds in which all coders take turns,
so that other work on the machine slows all alike. Two rows for constriction's range-ANS coder:

* "tables": the same 64 tables; its API takes one table a call, so the symbols come sorted by
  table. Sorting before encoding is not counted; each table is hot in the cache.
* "Gaussians": the symbols in their order, with a scale for each, quantised by it on the fly.
"""

import math
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

from jvrc.coding.range_coder import choose_lanes, decode, encode, prepare
from jvrc.coding.tables import CdfTables

SYMBOLS, ROUNDS = 491_520, 9
SCALES = np.geomspace(0.11, 256, 64)


def gaussian_tables() -> CdfTables:
    """Return the 64 tables; the middle symbol of each stands for 0."""
    rows = []
    for scale in SCALES:
        reach = math.ceil(5 * scale)
        edges = (np.arange(-reach, reach + 2) - 0.5) / (scale * math.sqrt(2))
        mass = np.diff([math.erf(edge) for edge in edges])
        row = 1 + np.floor(mass / mass.sum() * (2**16 - len(mass))).astype(int)
        row[reach] += 2**16 - row.sum()
        rows.append(row)
    start = np.cumsum([0, *map(len, rows)])
    low = -(np.diff(start) // 2)
    return CdfTables(*(a.astype(np.int32) for a in (np.concatenate(rows), start, low)))


def draw(tables: CdfTables) -> tuple[np.ndarray, np.ndarray, float]:
    """Return symbols int32 [n] that follow their tables, tables int32 [n], ideal size in bytes."""
    rng = np.random.default_rng(0)
    weights = np.exp(-0.1 * np.arange(64))
    index = rng.choice(64, SYMBOLS, p=weights / weights.sum()).astype(np.int32)
    ends = np.cumsum(tables.freq)  # of the symbols of all tables in a row, 2**16 a table
    slots = rng.integers(0, 2**16, SYMBOLS)
    at = np.searchsorted(ends, slots + index * np.int64(2**16), side="right")
    probability = tables.freq[at] / 2**16
    return (at - tables.start[index]).astype(np.int32), index, -np.log2(probability).sum() / 8


def ours(symbols: np.ndarray, index: np.ndarray, tables: CdfTables, lanes: int) -> tuple:
    """Return (encoder, decoder): functions without arguments and of the stream."""
    ready = prepare(tables)
    return (
        lambda: encode(symbols, index, ready, lanes),
        lambda data: decode(data, index, ready, lanes),
    )


def constriction_tables(symbols: np.ndarray, index: np.ndarray, tables: CdfTables) -> tuple:
    import constriction

    ranges = list(zip(tables.start[:-1], tables.start[1:], strict=True))
    models = [
        constriction.stream.model.Categorical(tables.freq[a:b] / 2**16, perfect=False)
        for a, b in ranges
    ]
    orders = [np.flatnonzero(index == t) for t in range(64)]
    parts = [symbols[order] for order in orders]

    def encoder() -> np.ndarray:
        coder = constriction.stream.stack.AnsCoder()
        for part, model in zip(reversed(parts), reversed(models), strict=True):
            coder.encode_reverse(part, model)
        return coder.get_compressed()

    def decoder(words: np.ndarray) -> np.ndarray:
        coder = constriction.stream.stack.AnsCoder(words)
        found = [coder.decode(m, len(p)) for m, p in zip(models, parts, strict=True)]
        decoded = np.empty_like(symbols)
        for order, part in zip(orders, found, strict=True):
            decoded[order] = part
        return decoded

    return encoder, decoder


def constriction_gaussians(symbols: np.ndarray, index: np.ndarray, tables: CdfTables) -> tuple:
    import constriction

    reach = -tables.low
    model = constriction.stream.model.QuantizedGaussian(-int(reach.max()), int(reach.max()))
    values, scales, zeros = (
        symbols - reach[index].astype(np.int32),
        SCALES[index],
        np.zeros(SYMBOLS),
    )

    def encoder() -> np.ndarray:
        coder = constriction.stream.stack.AnsCoder()
        coder.encode_reverse(values, model, zeros, scales)
        return coder.get_compressed()

    def decoder(words: np.ndarray) -> np.ndarray:
        decoded = constriction.stream.stack.AnsCoder(words).decode(model, zeros, scales)
        return decoded + reach[index]

    return encoder, decoder


def timed(call: Callable, *args) -> tuple[float, object]:
    begin = time.perf_counter()
    result = call(*args)
    return time.perf_counter() - begin, result


def main() -> None:
    try:
        import constriction  # noqa: F401
    except ImportError:
        sys.exit(
            "this benchmark compares with constriction, which is missing: pip install constriction"
        )
    tables = gaussian_tables()
    symbols, index, ideal = draw(tables)
    coders = {str(n): ours(symbols, index, tables, n) for n in (1, 4, 16, 64)}
    coders["constriction, tables"] = constriction_tables(symbols, index, tables)
    coders["constriction, Gaussians"] = constriction_gaussians(symbols, index, tables)
    times = {name: ([], []) for name in coders}
    sizes = {}
    for turn in range(ROUNDS + 1):  # the first compiles
        for name, (encoder, decoder) in coders.items():
            encoding, data = timed(encoder)
            decoding, decoded = timed(decoder, data)
            if not np.array_equal(decoded, symbols):
                sys.exit(f"{name}: decoded symbols differ")
            sizes[name] = len(data) if isinstance(data, bytes) else data.nbytes
            if turn:
                times[name][0].append(encoding)
                times[name][1].append(decoding)
    print(f"{SYMBOLS:,} symbols, ideal {ideal:,.0f} bytes, choose_lanes: {choose_lanes(ideal)}")
    print(f"{'lanes':24} {'bytes':>7} {'overhead':>9} {'encode':>7} {'decode':>7}  Msymbols/s")
    for name, both in times.items():
        speeds = [SYMBOLS / 1e6 / statistics.median(t) for t in both]
        over = 100 * (sizes[name] / ideal - 1)
        print(f"{name:24} {sizes[name]:7,} {over:8.2f}% {speeds[0]:7.1f} {speeds[1]:7.1f}")


if __name__ == "__main__":
    main()
