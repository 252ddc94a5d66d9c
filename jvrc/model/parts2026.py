"""Flax (linen) modules of the parts that jvrc2026 does not share with the models of 2018.

As in jvrc.model.parts, `parameters` returns the dict that the functions of jvrc.model.jvrc2026
take. New blocks, films and context outputs are zero at their ends: each block starts as the
identity, and Delta changes nothing.
"""

import flax.linen as nn
from jax import Array

from jvrc.model import jvrc2026, residual
from jvrc.model.config import Jvrc2026Config
from jvrc.model.initialisers import Initialiser, constant, fan_in, normal, uniform
from jvrc.model.parts import Linear

ZERO = constant(0.0)


class Matrix(nn.Module):
    """A kernel without a bias."""

    shape: tuple[int, ...]
    kernel_init: Initialiser

    @nn.compact
    def parameters(self) -> dict:
        return {"kernel": self.param("kernel", self.kernel_init, self.shape)}


class Block(nn.Module):
    """A residual block (jvrc.model.residual); with films if it sees `features` of Delta."""

    channels: int
    expansion: int
    fold: int
    features: int = 0

    @nn.compact
    def parameters(self) -> dict:
        c, wide = self.channels, self.channels * self.expansion
        found = {
            "in": Linear((c, c), normal(), name="in").parameters(),
            "depthwise": Linear((3, 3, c), normal(9), name="depthwise").parameters(),
            "out": Matrix((c, c), ZERO, name="out").parameters(),
            "wide": Linear((c, wide), normal(), name="wide").parameters(),
            "back": Linear((wide // self.fold, c), ZERO, name="back").parameters(),
        }
        if self.features:
            shape = (self.features, 2 * c)
            found |= {k: Matrix(shape, ZERO, name=k).parameters() for k in ("film0", "film1")}
        return found

    def __call__(self, x: Array, features: Array | None = None) -> Array:
        return residual.residual_block(self.parameters(), x, features, None, 1)


def _blocks(config: Jvrc2026Config, count: int, channels: int, features: int = 0) -> dict:
    names = [f"block{i}" for i in range(count)]
    size = (channels, config.expansion, config.fold, features)
    return {name: Block(*size, name=name).parameters() for name in names}


class Analysis(nn.Module):
    """g_a: first, block0 …, down."""

    config: Jvrc2026Config

    @nn.compact
    def parameters(self) -> dict:
        c = self.config
        return _blocks(c, c.g_a_blocks, c.C) | {
            "first": Matrix((192, c.C), normal(), name="first").parameters(),
            "down": Linear((5, 5, c.C, c.M), fan_in(), name="down").parameters(),
        }

    def __call__(self, x: Array) -> Array:
        return jvrc2026.g_a(self.config, self.parameters(), x)


class Synthesis(nn.Module):
    """g_s: film, up, block0 …, last."""

    config: Jvrc2026Config

    @nn.compact
    def parameters(self) -> dict:
        c = self.config
        return _blocks(c, c.g_s_blocks, c.C, c.E) | {
            "film": Matrix((c.E, 2 * c.M), ZERO, name="film").parameters(),
            "up": Matrix((c.M, 4 * c.C), normal(), name="up").parameters(),
            "last": Matrix((c.C, 192), normal(), name="last").parameters(),
        }

    def __call__(self, y_hat: Array, features: Array | None = None) -> Array:
        return jvrc2026.g_s(self.config, self.parameters(), y_hat, features)


class ContextModel(nn.Module):
    """The context model: in1 … in3, film1 … film3, block0 …, out1 … out3."""

    config: Jvrc2026Config

    @nn.compact
    def parameters(self) -> dict:
        c = self.config
        found = _blocks(c, c.context_blocks, c.K)
        for i in range(1, jvrc2026.STEPS):
            enter, film, leave = f"in{i}", f"film{i}", f"out{i}"
            found |= {
                enter: Linear((2 * c.M, c.K), normal(), name=enter).parameters(),
                film: Matrix((c.E, 2 * c.K), ZERO, name=film).parameters(),
                leave: Linear((c.K, c.M), ZERO, name=leave).parameters(),
            }
        return found

    def __call__(self, step: int, known: Array, first: Array, features: Array | None) -> Array:
        return jvrc2026.means(self.config, self.parameters(), step, known, first, features)


class Delta(nn.Module):
    """The features of Delta, spread over its range: kernel [1,E] and bias [E]."""

    config: Jvrc2026Config

    @nn.compact
    def parameters(self) -> dict:
        e = self.config.E
        return {
            "kernel": self.param("kernel", normal(gain=2.0), (1, e)),
            "bias": self.param("bias", uniform(2.0), (e,)),
        }

    def __call__(self, qstep: Array) -> Array:
        return residual.delta_features(self.parameters(), qstep)
