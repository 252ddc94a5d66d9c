"""A calibrated start: a linear transform pyramid, fitted to photographs, in the places of the CNN.

Each layer of g_a takes, in its 2x2 centre taps, the leading eigenvectors of the 2x2 blocks of the
previous layer's output (a Karhunen-Loeve transform for each level), g_s their transposes; the other
taps are small noise. The first step of training thus starts at an orthogonal transform codec
instead of noise, which replaces thousands of steps.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jvrc.model import context, layers, transforms
from jvrc.model.config import Config
from jvrc.model.modules import init_params
from jvrc.training.klt_scales import GAIN

_NOISE = 0.02


def _blocks(x: np.ndarray) -> np.ndarray:
    """[B,H,W,C] -> [B*H/2*W/2, 4*C], the 2x2 blocks."""
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5).reshape(-1, 4 * c)


def _leading(blocks: np.ndarray, count: int) -> np.ndarray:
    """Eigenvectors of the second moment, largest first: [4*C, min(count, 4*C)]."""
    _, vectors = np.linalg.eigh(blocks.T @ blocks / len(blocks))
    return vectors[:, ::-1][:, :count]


def _centre(kernel: np.ndarray, basis: np.ndarray, *, transposed: bool) -> np.ndarray:
    """Writes a basis [4*I, K] into taps 2..3 of noise: [5,5,I,O] or, transposed, [5,5,O,I]."""
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
    """Parameters fitted to crops [n,H,W,3] in [0,1]; config from `klt_scales.klt_config`.

    Channels beyond the pyramid's keep their usual random analysis and a synthesis of small noise.
    """
    params = jax.tree.map(np.array, init_params(key, config))
    g_a, g_s, x = params["g_a"], params["g_s"], np.asarray(crops)
    for i in range(4):
        analysis, synthesis = g_a[f"conv{i}"], g_s[f"deconv{3 - i}"]
        centred = x - 0.5 if i == 0 else x
        basis = _leading(_blocks(centred), analysis["kernel"].shape[3])
        gain = GAIN if i == 0 else 1.0
        analysis["kernel"] = _centre(analysis["kernel"], basis * gain / 2, transposed=False)
        synthesis["kernel"] = _centre(
            _NOISE * synthesis["kernel"], basis * 2 / gain, transposed=True
        )
        if i == 0:
            analysis["bias"] = -0.5 * analysis["kernel"].sum((0, 1, 2))
            synthesis["bias"] = np.full(3, 0.5, np.float32)
        x = np.asarray(layers.down(jax.tree.map(jnp.asarray, analysis), jnp.asarray(x)))
    params["g_a"], params["g_s"] = g_a, g_s
    _calibrate_hyper(config, params, crops)
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), params)


def _calibrate_hyper(config: Config, params: dict, crops: np.ndarray) -> None:
    """Sets the last bias of h_s to each channel's spread and mean, in place.

    And how far below zero the entropy parameters network of mbt2018 starts to bend.
    """
    y = np.asarray(jax.jit(lambda p, x: transforms.g_a(config, p, x))(params["g_a"], crops))
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
