"""The part of the reference decoder that refines scale indices: section 6.2 of the format.

Written from `jvrc/coding/FORMAT.md` alone, sharing no code with jvrc. All in int64.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import reference_jvrc2026 as jvrc2026

Array = np.ndarray

MAX_SUM = 2**24
MAX_SCORE, MAX_INDEX, MAX_RATE, MAX_HIDDEN = 127, 89, 96, 255


class Network:
    """The integers of a step."""

    def __init__(self, weights: dict[str, Array], step: int):
        def of(name: str) -> Array:
            return weights[f"refinement/{name}"][step].astype(np.int64)

        self.score = weights["refinement/score"].astype(np.int64)
        self.hidden = of("hidden_kernel"), of("hidden_bias"), of("hidden_shift")
        self.out = of("out_kernel"), of("out_bias"), of("out_shift")
        self.around, self.by_index = of("around"), of("by_index")
        self.check()

    def check(self) -> None:
        """ValueError unless the weights keep to the end of the section."""
        kernel, bias, shift = self.hidden
        m = len(kernel) // 2
        sums = MAX_SCORE * abs(kernel[:m]).sum(0) + MAX_INDEX * abs(kernel[m:-1]).sum(0)
        sums += MAX_RATE * abs(kernel[-1]) + abs(bias)
        kernel, bias, other = self.out
        outs = MAX_HIDDEN * abs(kernel[:-1]).sum(0) + MAX_RATE * abs(kernel[-1]) + abs(bias)
        outs += MAX_SCORE * abs(self.around).sum((0, 1))
        shifts = np.concatenate([shift, other])
        if max(sums.max(), outs.max()) > MAX_SUM or shifts.min() < 0 or shifts.max() > 24:
            raise ValueError("the refinement of scales may exceed its bounds")

    def refined(self, s: Array, index: Array, rate: int) -> Array:
        """Refined indices `[4h,4w,M]`."""
        rows, columns, _ = index.shape
        kernel, bias, a = self.hidden
        rho = np.full((rows, columns, 1), rate)
        v = np.concatenate([s, index, rho], -1) @ kernel + bias
        v = np.clip(v + half(a) >> a, 0, MAX_HIDDEN)
        kernel, bias, b = self.out
        total = np.concatenate([v, rho], -1) @ kernel + bias
        padded = np.pad(s, ((2, 2), (2, 2), (0, 0)))
        for i in range(5):
            for j in range(5):
                total += self.around[i, j] * padded[i : i + rows, j : j + columns]
        n = (total + half(b) >> b) + self.by_index[index]
        return np.clip(index + (n + 8 >> 4), 0, MAX_INDEX)


def half(shift: Array) -> Array:
    """⌊2^shift / 2⌋."""
    return np.left_shift(1, shift) >> 1


def decode(
    weights: dict[str, Array],
    code: int,
    index: Array,
    tables_of: Callable[[Array], Array],
    decoder: Any,
) -> Array:
    """y `[4h,4w,M]` of a tile: integers from the decoder, step by step."""
    y, known = np.zeros_like(index), np.zeros(index.shape, bool)
    for step in range(jvrc2026.STEPS):
        network, now = Network(weights, step), jvrc2026.is_now(step, index.shape)
        s = np.where(known, network.score[index, np.minimum(abs(y), 15)], 0)
        tables = tables_of(network.refined(s, index, code + 128 >> 3))
        y[now], known = decoder.take(tables[now]), known | now
    decoder.finish()
    return y
