"""KLT initialisation: new parameters that make an orthogonal transform codec of photographs.

In the models of 2018, the 2x2 centre taps of each layer of g_a hold the leading eigenvectors of the
2x2 blocks of the previous layer's output, a Karhunen-Loeve transform (KLT) at each of four levels;
those of g_s hold the transposes. All other taps are small noise. Training that begins here saves
thousands of steps. For jvrc2026 see jvrc.training.initialisation.klt2026.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jvrc.model import architectures, context, layers
from jvrc.model.config import Config, Jvrc2026Config
from jvrc.model.modules import init_params
from jvrc.training.initialisation import klt2026
from jvrc.training.initialisation.klt2026 import leading_eigenvectors
from jvrc.training.initialisation.klt_scales import GAIN

_NOISE = 0.02  # factor on the usual random values of taps


def _blocks(x: np.ndarray) -> np.ndarray:
    """Return the 2x2 blocks of x: [B,H,W,C] -> [B*H/2*W/2,4*C]."""
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5).reshape(-1, 4 * c)


def _centre(kernel: np.ndarray, basis: np.ndarray, *, transposed: bool) -> np.ndarray:
    """Return a kernel with a basis [4*I,K] in taps 2 and 3, over reduced values elsewhere.

    kernel: [5,5,I,O] or, transposed, [5,5,O,I].
    """
    out = np.array(kernel)
    k = basis.shape[1]
    taps = basis.reshape(2, 2, -1, k)
    if transposed:
        out[:, :, :k] *= _NOISE
        out[2:4, 2:4, :k] += taps.transpose(0, 1, 3, 2)
    else:
        out[:, :, :, :k] *= _NOISE
        out[2:4, 2:4, :, :k] += taps
    return out


def klt_params(key: jax.Array, config: Config, crops: np.ndarray) -> dict:
    """Return parameters fitted to crops [n,H,W,3] in [0,1]; config: of `klt_scales.klt_config`."""
    params = jax.tree.map(np.array, init_params(key, config))
    if isinstance(config, Jvrc2026Config):
        klt2026.fit_transforms(params["g_a"], params["g_s"], np.asarray(crops))
    else:
        _fit_transforms(params["g_a"], params["g_s"], np.asarray(crops))
    _calibrate_hyper(config, params, crops)
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), params)


def _fit_transforms(g_a: dict, g_s: dict, x: np.ndarray) -> None:
    """Set the kernels of a model of 2018, in place; x: the crops.

    Channels that the transform does not fill keep random kernels in g_a and small ones in g_s.
    """
    for i in range(4):
        analysis, synthesis = g_a[f"conv{i}"], g_s[f"deconv{3 - i}"]
        centred = x - 0.5 if i == 0 else x
        basis = leading_eigenvectors(_blocks(centred), analysis["kernel"].shape[3])
        gain = GAIN if i == 0 else 1.0
        analysis["kernel"] = _centre(analysis["kernel"], basis * gain / 2, transposed=False)
        synthesis["kernel"] = _centre(
            _NOISE * synthesis["kernel"], basis * 2 / gain, transposed=True
        )
        if i == 0:
            analysis["bias"] = -0.5 * analysis["kernel"].sum((0, 1, 2))
            synthesis["bias"] = np.full(3, 0.5, np.float32)
        x = np.asarray(layers.down(jax.tree.map(jnp.asarray, analysis), jnp.asarray(x)))


def _calibrate_hyper(config: Config, params: dict, crops: np.ndarray) -> None:
    """Set the last bias of h_s to the spread and the mean of each channel of y, in place.

    In mbt2018 the entropy parameters network is made linear over the range that y has.
    """
    y = np.asarray(jax.jit(lambda p, x: architectures.g_a(config, p, x))(params, crops))
    bias = np.zeros_like(params["h_s"]["conv2"]["bias"])
    spread = np.maximum(y.std((0, 1, 2)), 0.2)
    bias[: config.M] = np.log(spread) if config.log_scale else spread
    if config.predicts_mean:
        bias[config.M :] = y.mean((0, 1, 2)) / config.hyper_scale
    params["h_s"]["conv2"]["bias"] = bias
    params["h_s"]["conv2"]["kernel"] *= 0.1
    if config.has_context:
        reach = np.concatenate([np.full(config.M, 3.0), 4 * spread / config.hyper_scale])
        reach = 1.0 + reach - np.minimum(bias, 0)
        new = params["entropy_parameters"]
        params["entropy_parameters"] = context.with_linear_range(new, reach)
