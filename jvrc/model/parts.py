"""Flax (linen) modules of the parts of a model: they own the parameters and their initialisers.

The arithmetic is that of the pure functions in jvrc.model, which take parameters as a dict. Each
module has a method `parameters` that returns this dict (and draws it in `init`), and a call that
passes it to its function. The parts of jvrc2026 are in jvrc.model.parts2026.
"""

import math

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jvrc.model import context, entropy_models, layers, transforms, variable_rate
from jvrc.model.config import Config
from jvrc.model.initialisers import Initialiser, constant, fan_in, first, passing, uniform

PRIOR_SCALE = 10.0  # of the logistic distribution that a new bottleneck is
REACH = 8.0  # a new entropy parameters network is linear while its inputs are above -REACH


class Linear(nn.Module):
    """A kernel of any shape [...,O] and a bias [O]: of a convolution or a dense layer."""

    shape: tuple[int, ...]
    kernel_init: Initialiser
    bias_init: Initialiser = constant(0.0)

    @nn.compact
    def parameters(self) -> dict:
        kernel = self.param("kernel", self.kernel_init, self.shape)
        return {"kernel": kernel, "bias": self.param("bias", self.bias_init, self.shape[-1:])}


class GDN(nn.Module):
    """(Inverse) GDN; beta starts at 1, gamma at 0.1 times the identity (Ballé et al. 2016)."""

    channels: int
    inverse: bool = False

    @nn.compact
    def parameters(self) -> dict:
        c, pedestal = self.channels, layers.PEDESTAL
        beta = self.param("beta", constant((1.0 + pedestal) ** 0.5), (c,))
        gamma = self.param("gamma", lambda _, s: jnp.sqrt(0.1 * jnp.eye(*s) + pedestal), (c, c))
        return {"beta": beta, "gamma": gamma}

    def __call__(self, x: Array) -> Array:
        return layers.gdn(self.parameters(), x, inverse=self.inverse)


class MLP(nn.Module):
    """Dense layers kernel0, bias0, …; the last kernel is zero: the output starts at `last_bias`."""

    sizes: tuple[int, ...]
    last_bias: float = 0.0

    @nn.compact
    def parameters(self) -> dict:
        params, last = {}, len(self.sizes) - 2
        for i in range(last + 1):
            shape, hidden = self.sizes[i : i + 2], uniform(self.sizes[i] ** -0.5)
            kernel = self.param(f"kernel{i}", hidden if i < last else constant(0.0), shape)
            bias = hidden if i < last else constant(self.last_bias)
            params |= {f"kernel{i}": kernel, f"bias{i}": self.param(f"bias{i}", bias, shape[1:])}
        return params

    def __call__(self, x: Array) -> Array:
        return variable_rate.mlp(self.parameters(), x)


class Analysis(nn.Module):
    """g_a: 3 -> N -> N -> N -> M channels; conv0 … conv3, gdn0 … gdn2."""

    config: Config

    @nn.compact
    def parameters(self) -> dict:
        n = self.config.N
        widths = (3, n, n, n, self.config.M)
        shapes = {f"conv{i}": (5, 5, *widths[i : i + 2]) for i in range(4)}
        convs = {k: Linear(s, fan_in(), name=k).parameters() for k, s in shapes.items()}
        return convs | {k: GDN(n, name=k).parameters() for k in ("gdn0", "gdn1", "gdn2")}

    def __call__(self, x: Array) -> Array:
        return transforms.g_a(self.config, self.parameters(), x)


class Synthesis(nn.Module):
    """g_s: M -> N -> N -> N -> 3 channels; deconv0 … deconv3, igdn0 … igdn2."""

    config: Config

    @nn.compact
    def parameters(self) -> dict:
        n = self.config.N
        widths = (self.config.M, n, n, n, 3)
        shapes = {f"deconv{i}": (5, 5, *widths[i : i + 2]) for i in range(4)}
        convs = {k: Linear(s, fan_in(2.0), name=k).parameters() for k, s in shapes.items()}
        return convs | {k: GDN(n, True, name=k).parameters() for k in ("igdn0", "igdn1", "igdn2")}

    def __call__(self, y: Array) -> Array:
        return transforms.g_s(self.config, self.parameters(), y)


class HyperAnalysis(nn.Module):
    """h_a: M -> N -> N -> N channels; conv0 … conv2."""

    config: Config

    @nn.compact
    def parameters(self) -> dict:
        n, m = self.config.N, self.config.M
        shapes = {"conv0": (3, 3, m, n), "conv1": (5, 5, n, n), "conv2": (5, 5, n, n)}
        return {k: Linear(s, fan_in(), name=k).parameters() for k, s in shapes.items()}

    def __call__(self, y: Array) -> Array:
        return transforms.h_a(self.config, self.parameters(), y)


class HyperSynthesis(nn.Module):
    """h_s: config.hyper_widths channels; deconv0, deconv1, conv2. The call returns (sigma, mu)."""

    config: Config

    @nn.compact
    def parameters(self) -> dict:
        w = self.config.hyper_widths
        side = self.config.h_s_kernel
        return {
            "deconv0": Linear((5, 5, *w[0:2]), fan_in(2.0), name="deconv0").parameters(),
            "deconv1": Linear((5, 5, *w[1:3]), fan_in(2.0), name="deconv1").parameters(),
            "conv2": Linear((side, side, *w[2:4]), fan_in(), name="conv2").parameters(),
        }

    def __call__(self, z: Array) -> tuple[Array, Array]:
        return transforms.h_s(self.config, self.parameters(), z)


class EntropyBottleneck(nn.Module):
    """The factorised prior of z (Ballé et al. 2018, App. 6.1); at its start a wide logistic.

    The call returns the probability of the bins of `width` around z [...,C].
    """

    channels: int

    @nn.compact
    def parameters(self) -> dict:
        params, c, widths = {}, self.channels, entropy_models.FILTERS
        last = len(widths) - 2
        scale = PRIOR_SCALE ** (1 / (last + 1))
        for i in range(last + 1):
            f_in, f_out = widths[i : i + 2]
            matrix = constant(math.log(math.expm1(1 / scale / f_out)))  # softplus(matrix): positive
            params[f"matrix{i}"] = self.param(f"matrix{i}", matrix, (c, f_out, f_in))
            params[f"bias{i}"] = self.param(f"bias{i}", uniform(0.5), (c, f_out, 1))
            if i < last:
                params[f"factor{i}"] = self.param(f"factor{i}", constant(0.0), (c, f_out, 1))
        return params | {"quantiles": self.param("quantiles", self._quantiles, (c, 1, 3))}

    @staticmethod
    def _quantiles(key: Array, shape: tuple[int, ...]) -> Array:
        return jnp.broadcast_to(jnp.array([-PRIOR_SCALE, 0.0, PRIOR_SCALE]), shape)

    def __call__(self, z: Array, width: Array | float) -> Array:
        return entropy_models.bottleneck_probability(self.parameters(), z, width)


class ContextModel(nn.Module):
    """The context model of mbt2018: conv, the 12 taps that the mask leaves, and step, of 1 / Delta.

    conv starts near zero, step at zero. The call returns the features [B,h,w,2M] of y^.
    """

    config: Config

    @nn.compact
    def parameters(self) -> dict:
        m = self.config.M
        small = uniform(0.1 / (25 * m) ** 0.5)
        return {
            "conv": Linear((12, m, 2 * m), small, name="conv").parameters(),
            "step": Linear((1, 2 * m), constant(0.0), name="step").parameters(),
        }

    def __call__(self, y_hat: Array, qstep: Array) -> Array:
        return context.features(self.config, self.parameters(), y_hat, qstep)


class EntropyParameters(nn.Module):
    """The three 1x1 layers behind the context model, at their start the identity of psi + context.

    2M units of each layer pass the sum on, kept positive by a bias of REACH, where LeakyReLU is the
    identity (`context.with_linear_range`). The others start at random and reach the last layer
    with training. The call returns (sigma, mu).
    """

    config: Config

    @nn.compact
    def parameters(self) -> dict:
        w, count = context.widths(self.config), 2 * self.config.M
        matrices = (jnp.tile(jnp.eye(count), (2, 1)), jnp.eye(w[1], count), jnp.eye(w[2], count))
        biases = (first(count, REACH), constant(0.0), constant(-REACH))
        params = {}
        for i, name in enumerate(("conv0", "conv1", "conv2")):
            layer = Linear((1, 1, *w[i : i + 2]), passing(matrices[i]), biases[i], name=name)
            params[name] = layer.parameters()
        return params

    def __call__(self, psi: Array, features: Array) -> tuple[Array, Array]:
        return context.entropy_parameters(self.config, self.parameters(), psi, features)
