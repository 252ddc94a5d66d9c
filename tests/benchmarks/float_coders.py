"""Latent coders on the float networks, to compare the integer ones with: see bench_integer.py.

`float_coder` goes where jvrc.codec.image.encoder and decoder take `coder_of`.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import jvrc
from jvrc.codec.latent_coders.independent import IndependentCoder
from jvrc.codec.latent_coders.wavefront import WavefrontCoder
from jvrc.codec.latent_coders.wavefront_loop import Arithmetic
from jvrc.codec.tiles.latent_coder import LatentCoder
from jvrc.codec.transforms.latents import HYPER_MARGIN, dequantise_z
from jvrc.codec.transforms.tiling import map_tiles
from jvrc.integer import hyper_synthesis
from jvrc.model import context, layers, transforms


def float_coder(model: jvrc.FrozenModel, z_q: np.ndarray, qstep_code: int) -> LatentCoder:
    """The coder of the model's architecture, on float networks."""
    if not model.config.has_context:
        return FloatIndependentCoder(model, z_q, qstep_code)
    return FloatWavefrontCoder(model, z_q, qstep_code)


def z_hat_of(model: jvrc.FrozenModel, z_q: np.ndarray, qstep_code: int) -> np.ndarray:
    """z^, float32 [h,w,N]."""
    z_hat = dequantise_z(model, z_q, qstep_code).astype(np.float32)
    return z_hat * np.float32(model.z_unit)


class FloatIndependentCoder(IndependentCoder):
    """Scale indices and means from the float h_s, in the precision of its kernels."""

    def entropy_parameters(self, z_q):
        z_hat = z_hat_of(self.model, z_q, self.qstep_code)
        run = partial(_h_s, self.model.config, self.model.params["h_s"], np.int32(self.qstep_code))
        return map_tiles(run, (z_hat,), z_q.shape[:2], HYPER_MARGIN)


@partial(jax.jit, static_argnums=0)
def _h_s(config, params, qstep_code, z_hat, valid):
    z_hat = z_hat[None].astype(params["deconv0"]["kernel"].dtype)
    sigma, mu = transforms.h_s(config, params, z_hat, tuple(valid))
    log_sigma = hyper_synthesis.SCALES_PER_OCTAVE * jnp.log2(jnp.maximum(sigma[0], 1e-9))
    steps = (log_sigma - qstep_code) - hyper_synthesis.SCALE_CODE_MIN
    index = jnp.round(steps / (1 << hyper_synthesis.INDEX_SHIFT))
    index = jnp.clip(index, 0, hyper_synthesis.INDEX_COUNT - 1)
    return index.astype(jnp.uint8), mu[0].astype(jnp.float32)


class FloatWavefrontCoder(WavefrontCoder):
    """The same loop, on the float context model and entropy parameters."""

    def __init__(self, model, z_q, qstep_code):
        self.arithmetic = _arithmetic(model)
        super().__init__(model, z_q, qstep_code)

    def psi(self, z_q):
        z_hat = z_hat_of(self.model, z_q, self.qstep_code)
        return np.asarray(_psi(self.model.config, self.model.params, z_hat[None]))


@partial(jax.jit, static_argnums=0)
def _psi(config, params, z_hat):
    psi = transforms.hyper_layers(config, params["h_s"], z_hat)[-1][0]
    layer = params["entropy_parameters"]["conv0"]
    return psi @ layer["kernel"][0, 0, : 2 * config.M] + layer["bias"]


_MU_UNIT = 64  # of the float mu that the loop passes on as an integer: fine enough
_made: dict[str, Arithmetic] = {}  # one for each model: the loop compiles anew for another


def _arithmetic(model: jvrc.FrozenModel) -> Arithmetic:
    if model.model_id not in _made:
        _made[model.model_id] = _make_arithmetic(model)
    return _made[model.model_id]


def _make_arithmetic(model: jvrc.FrozenModel) -> Arithmetic:
    p, m = model.params, model.config.M
    conv = p["context"]["conv"]["kernel"]
    rows = [conv[r].reshape(-1, 2 * m) for r in context.ROWS]
    kernels = [p["entropy_parameters"][f"conv{i}"]["kernel"][0, 0] for i in range(3)]
    biases = [p["entropy_parameters"][f"conv{i}"]["bias"] for i in range(3)]
    conv_format = model.fixed_point_format.layers["context/conv"]
    bias_unit = 2.0 ** (conv_format.exponent.astype(float) - conv_format.shift)

    def parameters(config, network, weights, seen, psi, bias):
        x = sum(s @ r for s, r in zip(seen, rows, strict=True)) + bias * np.float32(bias_unit)
        x = layers.leaky_relu(x @ kernels[0][2 * m :] + psi)
        x = layers.leaky_relu(x @ kernels[1] + biases[1]) @ kernels[2] + biases[2]
        sigma, mu = transforms.split_parameters(config, x)
        log_sigma = hyper_synthesis.SCALES_PER_OCTAVE * jnp.log2(jnp.maximum(sigma, 1e-9))
        return jnp.round(log_sigma).astype(jnp.int32), jnp.round(mu * _MU_UNIT).astype(jnp.int32)

    def seen_latents(network, q, mu, delta, step):
        return mu / _MU_UNIT + step / 1024 * jnp.sign(q) * (jnp.abs(q) - delta / 512)

    def mu_of(network, mu):
        return mu.astype(jnp.float32) / _MU_UNIT

    return Arithmetic(lambda network: None, parameters, seen_latents, mu_of)
