"""The transforms of whole images, tile by tile: image -> y, z -> integers of z; y^ -> image.

g_a, h_a and g_s are float and computed in full float32 whatever JAX's default precision is: another
machine's rounding changes a pixel by one at most. h_s runs on integers and on the CPU
(jvrc.integer).
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jvrc.codec.transforms.tiling import map_tiles, padded_to_blocks
from jvrc.coding.escapes import LIMIT
from jvrc.coding.tile_grid import BLOCK, Y_UNIT, blocks_of
from jvrc.frozen.model import FrozenModel
from jvrc.integer import hyper_synthesis
from jvrc.model import architectures, transforms
from jvrc.model.config import Config
from jvrc.qstep import qstep_of, qstep_row
from jvrc.runtime import devices
from jvrc.runtime.programs import stored

# How far h_a and h_s look around, in blocks of 64 pixels, rounded up: h_a 7 samples of y, h_s 1.75
# samples of z.
HYPER_MARGIN = 2

full_precision = partial(jax.default_matmul_precision, "highest")  # no bfloat16 or TF32 products


def analysis_margin(config: Config) -> int:
    """Return how far g_a looks around, in blocks of 64 pixels, rounded up."""
    return -(-config.analysis_reach // BLOCK)


def synthesis_margin(config: Config) -> int:
    """Return how far g_s looks around, in blocks of 64 pixels, rounded up."""
    return -(-config.synthesis_reach // BLOCK)


def analyse(model: FrozenModel, img: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return y [H/16,W/16,M] and z [H/64,W/64,N], float32, of uint8 [h,w,3], padded."""
    y = analyse_image(model, img)
    return y, analyse_latents(model, y)


def analyse_image(model: FrozenModel, img: np.ndarray) -> np.ndarray:
    """Return y = g_a(x), float32 [H/16,W/16,M], of uint8 [h,w,3] padded to whole blocks."""
    blocks = blocks_of(*img.shape[:2])

    def on_tile(tile: np.ndarray, valid: np.ndarray) -> tuple[Array]:
        return (_g_a(model.config, {"g_a": model.params["g_a"]}, tile, valid),)

    (y,) = map_tiles(on_tile, (padded_to_blocks(img),), blocks, analysis_margin(model.config))
    return y


def analyse_latents(model: FrozenModel, y: np.ndarray) -> np.ndarray:
    """Return z = h_a(y), float32 [H/64,W/64,N], of y [H/16,W/16,M]."""

    def on_tile(tile: np.ndarray, valid: np.ndarray) -> tuple[Array]:
        return (_h_a(model.config, model.params["h_a"], tile, valid),)

    blocks = y.shape[0] // Y_UNIT, y.shape[1] // Y_UNIT
    (z,) = map_tiles(on_tile, (y,), blocks, HYPER_MARGIN)
    return z


def synthesise(model: FrozenModel, y_hat: np.ndarray, qstep_code: int) -> np.ndarray:
    """Return the image g_s(y^), uint8 [H,W,3], padded as y^ [H/16,W/16,M] is."""
    params = {name: model.params[name] for name in ("g_s", "delta") if name in model.params}
    qstep = np.float32(qstep_of(qstep_code))

    def on_tile(tile: np.ndarray, valid: np.ndarray) -> tuple[Array]:
        return (_g_s(model.config, params, tile, qstep, valid),)

    blocks = y_hat.shape[0] // Y_UNIT, y_hat.shape[1] // Y_UNIT
    (img,) = map_tiles(on_tile, (y_hat,), blocks, synthesis_margin(model.config))
    return img


def round_to_symbols(x: np.ndarray) -> np.ndarray:
    """Return x rounded to int32, clipped to the integers that a stream can hold."""
    return np.rint(np.clip(x, -float(LIMIT), float(LIMIT))).astype(np.int32)


def quantise_z(model: FrozenModel, z: np.ndarray, qstep_code: int) -> np.ndarray:
    """Return round((z - m) / Delta_z), int32, of z [...,N]."""
    medians, z_step = _z_grid(model, qstep_code)
    return round_to_symbols((z / np.float32(model.z_unit) - medians) / z_step)


def dequantise_z(model: FrozenModel, z_q: np.ndarray, qstep_code: int) -> np.ndarray:
    """Return z^ = m + Delta_z * q, int32 in units of z_unit and saturated, from q [...,N]."""
    medians, z_step = _z_grid(model, qstep_code)
    z_hat = medians + z_step * z_q.astype(np.int64)
    limit = hyper_synthesis.Z_MAX
    return np.clip(z_hat, -limit, limit).astype(np.int32)


def hyper_synthesis_tiles(
    function: Callable[..., tuple], model: FrozenModel, z_q: np.ndarray, qstep_code: int
) -> list[np.ndarray]:
    """Apply function(config, network, z^, valid=...) to the tiles of z^, on the CPU.

    z_q: the integers of z, [H/64,W/64,N].
    """
    cpu = devices.cpu()
    network = jax.device_put(model.network, cpu)  # wherever the model lives

    def on_tile(tile: np.ndarray, valid: np.ndarray) -> tuple:
        return function(model.config, network, tile, valid=valid)

    z_hat = dequantise_z(model, z_q, qstep_code)
    with jax.default_device(cpu):
        return map_tiles(on_tile, (z_hat,), z_q.shape[:2], HYPER_MARGIN)


def _z_grid(model: FrozenModel, qstep_code: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (medians int32 [N], Delta_z int32), both in units of z_unit."""
    z_steps = np.asarray(model.z_steps)
    return np.asarray(model.medians), z_steps[model.z_step_index[qstep_row(qstep_code)]]


@partial(stored, static_argnums=(0,))
def _g_a(config: Config, params: dict, img: Array, valid: Array) -> Array:
    x = img.astype(jnp.float32)[None] / 255
    with full_precision():
        return architectures.g_a(config, params, x, tuple(valid))[0]


@partial(stored, static_argnums=(0,))
def _h_a(config: Config, params: dict, y: Array, valid: Array) -> Array:
    with full_precision():
        return transforms.h_a(config, params, y[None], tuple(valid))[0]


@partial(stored, static_argnums=(0,))
def _g_s(config: Config, params: dict, y_hat: Array, qstep: Array, valid: Array) -> Array:
    with full_precision():
        x = architectures.g_s(config, params, y_hat[None], qstep[None], tuple(valid))[0]
    x = jnp.nan_to_num(x)  # latents that no encoder writes can overflow
    return jnp.round(255 * jnp.clip(x, 0, 1)).astype(jnp.uint8)
