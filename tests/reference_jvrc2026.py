"""The part of the reference decoder that is jvrc2026's: section 7.2 of `jvrc/coding/FORMAT.md`.

Written from that page alone, sharing no code with jvrc. All in float64, features being
`[row, column, channel]`.
"""

from typing import Any

import numpy as np

Array = np.ndarray
Weights = dict[str, Array]  # by their names without "params/"
Config = dict[str, Any]

POSITIONS = np.array([(0, 0), (1, 1), (0, 1), (1, 0)])  # (row, column) in a 2×2 block
STEPS = len(POSITIONS)


def float_weights(tensors: dict[str, Array]) -> Weights:
    """The weights of section 7.2 as float64."""
    names = [name for name in tensors if name.startswith("params/")]
    return {name.removeprefix("params/"): tensors[name].astype(np.float64) for name in names}


def matrix(weights: Weights, name: str, x: Array) -> Array:
    """A matrix on the channels of x, with its bias where it has one."""
    out, bias = np.tensordot(x, weights[f"{name}/kernel"], 1), f"{name}/bias"
    return out + weights[bias] if bias in weights else out


def step_features(weights: Weights, step: float) -> Array:
    """Features of Δ, `[E]`."""
    low, high = weights["delta/range"]
    value = np.log2(max(low, min(high, step))) / 4
    return np.tanh(value * weights["delta/kernel"][0] + weights["delta/bias"])


def film(weights: Weights, name: str, x: Array, features: Array) -> Array:
    """Film of x by the features of Δ."""
    s, t = np.split(features @ weights[f"{name}/kernel"], 2)
    return x * (1 + s) + t


def convolve_depthwise(weights: Weights, name: str, x: Array) -> Array:
    """A 3×3 convolution of each channel by itself, with zeros around x."""
    rows, columns, _ = x.shape
    padded, kernel = np.pad(x, ((1, 1), (1, 1), (0, 0))), weights[f"{name}/kernel"]
    out = np.zeros_like(x)
    for a in range(3):
        for b in range(3):
            out += padded[a : a + rows, b : b + columns] * kernel[a, b]
    return out + weights[f"{name}/bias"]


def block(weights: Weights, name: str, x: Array, fold: int, features: Array | None) -> Array:
    """A block; with films where the features of Δ are given."""

    def filmed(i: int) -> Array:
        return x if features is None else film(weights, f"{name}/film{i}", x, features)

    h = np.maximum(matrix(weights, f"{name}/in", filmed(0)), 0)
    h = convolve_depthwise(weights, f"{name}/depthwise", h)
    x = x + matrix(weights, f"{name}/out", h)
    u = np.maximum(matrix(weights, f"{name}/wide", filmed(1)), 0)
    return x + matrix(weights, f"{name}/back", sum(np.split(u, fold, -1)))


def is_now(step: int, shape: tuple[int, int, int]) -> Array:
    """Which samples of y `[4h,4w,M]` are reconstructed in a step: bool."""
    rows, columns, channels = np.indices(shape)
    place = POSITIONS[(step + 4 * channels // shape[2]) % STEPS]
    return (rows % 2 == place[..., 0]) & (columns % 2 == place[..., 1])


def reconstruct(
    weights: Weights, config: Config, m: Array, residual: Array, features: Array
) -> Array:
    """Section 7.2, means: ŷ `[4h,4w,M]`, from the means m of section 5 and ŷ - μ."""
    known = np.zeros_like(m)
    for step in range(STEPS):
        mu = m
        if step:
            v = matrix(weights, f"context/in{step}", np.concatenate([known, m], -1))
            v = film(weights, f"context/film{step}", v, features)
            for i in range(config["context_blocks"]):
                v = block(weights, f"context/block{i}", v, config["fold"], None)
            mu = m + matrix(weights, f"context/out{step}", v)
        known = np.where(is_now(step, m.shape), mu + residual, known)
    return known


def spread(x: Array, side: int) -> Array:
    """Each position's channels (row, column, channel) as side × side positions."""
    rows, columns, channels = x.shape
    x = x.reshape(rows, columns, side, side, channels // side**2)
    return x.transpose(0, 2, 1, 3, 4).reshape(rows * side, columns * side, -1)


def synthesis(weights: Weights, config: Config, y_hat: Array, features: Array) -> Array:
    """Section 7.2, g_s: from ŷ to pixels around 0 … 1."""
    x = spread(matrix(weights, "g_s/up", film(weights, "g_s/film", y_hat, features)), 2)
    for i in range(config["g_s_blocks"]):
        x = block(weights, f"g_s/block{i}", x, config["fold"], features)
    return spread(matrix(weights, "g_s/last", x), 8) + 0.5
