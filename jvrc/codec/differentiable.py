"""The codec as a function that JAX traces: image -> rate, distortion and reconstruction.

Layout: NHWC, float32 in [0,1]. Rates are estimates in bits. No file is written, for the range coder
and the integer networks cannot be differentiated (docs/differentiable.md).
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jvrc.codec.transforms.latents import full_precision
from jvrc.coding.tables import TOTAL, CdfTables
from jvrc.coding.tile_grid import BLOCK
from jvrc.frozen.model import FrozenModel
from jvrc.integer import hyper_synthesis
from jvrc.model import architectures, entropy_models
from jvrc.model.config import Config

_RAREST = 1e-9  # the least probability of a value of y


class Estimate(NamedTuple):
    """What `forward` returns for a batch of images."""

    x_hat: Array  # float32 [B,H,W,3] in [0,1]
    bits_y: Array  # float32 [B]
    bits_z: Array  # float32 [B]
    mse: Array  # float32 [B], of samples in [0,1]

    @property
    def bits(self) -> Array:
        """The rate of each image in bits, [B]."""
        return self.bits_y + self.bits_z

    @property
    def bpp(self) -> Array:
        """The rate of each image in bits a pixel, [B]."""
        return self.bits / (self.x_hat.shape[1] * self.x_hat.shape[2])

    @property
    def psnr(self) -> Array:
        """The PSNR of each image in dB, [B]."""
        return -10 * jnp.log10(self.mse)


def forward(
    params: FrozenModel | tuple[Config, dict],
    x: Array,
    qstep: Array | float,
    *,
    key: Array | None = None,
) -> Estimate:
    """Return the rate, the distortion and the reconstruction of images, for jit, grad and vmap.

    Gradients of x, qstep and parameters pass straight through rounding, and through the clipping of
    x_hat to [0,1]. The rate of a frozen model is that of its CDF tables, with the derivative of the
    Gaussian that they are near to; with key, or of a model in training, that of the Gaussian.

    Args:
      params: a model of `jvrc.load`, which is a pytree and may be an argument of a jitted function;
        or (config, parameters) of a model in training, whose config must be static.
      x: float [B,H,W,3] in [0,1], of any size; computed in float32.
      qstep: quantisation step Delta, a number or [B], within the range of the model's training. It
        is not rounded to the grid of `jvrc.compress`.
      key: of uniform noise that stands for the rounding in the rates, as in training; None: the
        rates are those of rounded latents, as in a file.

    Raises:
      ValueError: x or qstep has another shape or dtype, a qstep of Python or NumPy is not
        positive, or params is no model.
    """
    config, weights = _config_and_parameters(params)
    x = _images(x)
    tables = params.y_tables if isinstance(params, FrozenModel) and key is None else None
    return _estimate(config, weights, tables, x, _qsteps(qstep, len(x)), key)


def _config_and_parameters(params: FrozenModel | tuple[Config, dict]) -> tuple[Config, dict]:
    if isinstance(params, FrozenModel):
        return params.config, params.params
    if isinstance(params, tuple) and len(params) == 2:
        config, weights = params
        if isinstance(config, Config) and isinstance(weights, dict):
            return config, weights
    raise ValueError(
        "params must be a FrozenModel, as `jvrc.load` returns it, or (config, parameters); "
        f"got {type(params).__name__}"
    )


def _images(x: Array) -> Array:
    x = jnp.asarray(x)
    if x.ndim != 4 or x.shape[-1] != 3 or 0 in x.shape:
        raise ValueError(f"x must be [B,H,W,3]; got {list(x.shape)}: one image is x[None]")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x must be float in [0,1]; got {x.dtype}: divide uint8 by 255.0")
    return x.astype(jnp.float32)


def _qsteps(qstep: Array | float, count: int) -> Array:
    """Return quantisation steps [count], float32; values of Python and NumPy must be positive."""
    for value in qstep if isinstance(qstep, list | tuple) else [qstep]:
        if isinstance(value, jax.Array):  # on a device, or traced
            continue
        values = np.asarray(value)
        number = jnp.issubdtype(values.dtype, jnp.number)
        if not number or not np.all((values > 0) & np.isfinite(values)):
            raise ValueError(f"qstep must be positive, a number or [{count}]; got {qstep!r}")
    qstep = jnp.asarray(qstep, jnp.float32)
    if qstep.shape not in ((), (count,)):
        raise ValueError(f"qstep must be a number or [{count}]; got {list(qstep.shape)}")
    return jnp.broadcast_to(qstep, (count,))


@partial(jax.jit, static_argnums=0)
def _estimate(
    config: Config,
    params: dict,
    tables: CdfTables | None,
    x: Array,
    qstep: Array,
    key: Array | None,
) -> Estimate:
    height, width = x.shape[1:3]
    gaussian = entropy_models.gaussian_probability
    probability = partial(_tabulated, tables) if tables else gaussian
    with full_precision():
        out = architectures.forward(config, params, _padded(x), qstep, key, probability)
    x_hat = out.x_hat[:, :height, :width]
    x_hat = x_hat + jax.lax.stop_gradient(jnp.clip(x_hat, 0, 1) - x_hat)
    mse = jnp.mean(jnp.square(x - x_hat), axis=(1, 2, 3))
    return Estimate(x_hat, out.bits_y, out.bits_z, mse)


def _tabulated(tables: CdfTables, value: Array, scale: Array) -> Array:
    """Return the probability of integers in the CDF tables, with the slope of the Gaussian's log.

    An integer that its table does not hold has the Gaussian's, at most that of the escape code.
    """
    smooth = jnp.maximum(entropy_models.gaussian_probability(value, scale), _RAREST)
    index = _scale_index(jax.lax.stop_gradient(scale))
    start, end = jnp.asarray(tables.start)[index], jnp.asarray(tables.start)[index + 1]
    place = jnp.int32(jax.lax.stop_gradient(value)) - jnp.asarray(tables.low)[index]
    escape = end - start - 1
    held = (place >= 0) & (place < escape)
    freq = jnp.asarray(tables.freq)[start + jnp.where(held, place, escape)]
    exact = freq.astype(jnp.float32) / TOTAL
    exact = jnp.where(held, exact, jnp.minimum(exact, smooth))
    return smooth * jax.lax.stop_gradient(exact / smooth)


def _scale_index(scale: Array) -> Array:
    """Return the index of the CDF table of each scale sigma / Delta, int32."""
    steps = jnp.log2(scale) * hyper_synthesis.SCALES_PER_OCTAVE - hyper_synthesis.SCALE_CODE_MIN
    index = jnp.round(steps / 2**hyper_synthesis.INDEX_SHIFT)
    return jnp.clip(index, 0, hyper_synthesis.INDEX_COUNT - 1).astype(jnp.int32)


def _padded(x: Array) -> Array:
    """Repeat the last row and column of images up to whole blocks, as the encoder does."""
    height, width = (-size % BLOCK for size in x.shape[1:3])
    return jnp.pad(x, ((0, 0), (0, height), (0, width), (0, 0)), mode="edge")
