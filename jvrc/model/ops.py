"""Convolutions, GDN, rounding and bounds: the differentiable primitives of the networks.

Images and features are NHWC float32. Kernels are stored [height, width, in, out], those of
transposed convolutions too, so that a PyTorch kernel maps onto ours by one transposition:
`conv.weight.transpose(2, 3, 1, 0)` and `deconv.weight.transpose(2, 3, 0, 1)`.

May import: winograd.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

from jvrc.model import winograd

# GDN stores sqrt(value + PEDESTAL), so that gradients do not vanish at zero
# (Ballé 2018, "Efficient Nonlinear Transforms", Sec. 3; CompressAI's NonNegativeParametrizer).
PEDESTAL = 2.0**-36
BETA_MIN = 1e-6

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def _conv(x: Array, kernel: Array, stride: int) -> Array:
    pad = [(k // 2, k // 2) for k in kernel.shape[:2]]
    return lax.conv_general_dilated(x, kernel, (stride, stride), pad, dimension_numbers=_LAYOUT)


def subpixel_kernel(kernel: Array) -> Array:
    """[5,5,I,O] of a stride-2 transposed convolution -> [3,3,I,4*O] of its sub-pixel form.

    Output pixel 2p+r receives input pixel p+t-1 through the tap 4-2t+r (the sixth tap is zero).
    """
    in_, out = kernel.shape[2:]
    k = jnp.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0)))
    k = k.reshape(3, 2, 3, 2, in_, out)[::-1, :, ::-1]
    return k.transpose(0, 2, 4, 1, 3, 5).reshape(3, 3, in_, 4 * out)


def block_kernel(kernel: Array) -> Array:
    """[5,5,I,O] of a stride-2 convolution -> [3,3,4*I,O] on blocks of 2x2 pixels.

    Output pixel p sees row r of block p+a-1 through the tap 2a+r (the sixth tap is zero).
    """
    in_, out = kernel.shape[2:]
    k = jnp.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0)))
    return k.reshape(3, 2, 3, 2, in_, out).transpose(0, 2, 1, 3, 4, 5).reshape(3, 3, 4 * in_, out)


def _blocks(x: Array) -> Array:
    """[B,H,W,I] -> [B,H/2,W/2,4*I]."""
    b, h, w, in_ = x.shape
    x = x.reshape(b, h // 2, 2, w // 2, 2, in_).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h // 2, w // 2, 4 * in_)


def _pays(x: Array, channels: int, positions: int) -> bool:
    """Whether `winograd` beats XLA's convolution on a CPU: measured, N = 64 … 192."""
    whole = x.shape[1] % (2 * winograd.BLOCK) == 0 == x.shape[2] % (2 * winograd.BLOCK)
    return whole and x.dtype == jnp.float32 and channels >= 128 and positions >= 4096


def _strided(x: Array, kernel: Array) -> Array:
    b, h, w, in_ = x.shape
    if not _pays(x, min(in_, kernel.shape[3]), b * h * w // 4):
        return _conv(x, kernel, 2)
    return lax.platform_dependent(
        x,
        kernel,
        cpu=lambda x, k: winograd.convolve(_blocks(x), block_kernel(k)),
        default=lambda x, k: _conv(x, k, 2),
    )


def _stride_one(x: Array, kernel: Array) -> Array:
    if not _pays(x, kernel.shape[2], x.size // x.shape[3]):
        return _conv(x, kernel, 1)
    direct = partial(_conv, stride=1)
    return lax.platform_dependent(x, kernel, cpu=winograd.convolve, default=direct)


def _subpixel(x: Array, kernel: Array) -> Array:
    b, h, w, _ = x.shape
    out = kernel.shape[3]
    y = _stride_one(x, subpixel_kernel(kernel))
    return y.reshape(b, h, w, 2, 2, out).transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, out)


# The two stride-2 operators below are each other's adjoint. Saying so keeps dilated convolutions,
# which are slow on a CPU, out of both gradients: a training step takes two thirds of the time.


@jax.custom_vjp
def downsample(x: Array, kernel: Array) -> Array:
    """5x5 convolution of stride 2, zero padding 2. x: [B,H,W,I], even H, W -> [B,H/2,W/2,O]."""
    return _strided(x, kernel)


@jax.custom_vjp
def upsample(x: Array, kernel: Array) -> Array:
    """5x5 transposed convolution of stride 2, computed as a sub-pixel convolution.

    Equals PyTorch's ConvTranspose2d(kernel 5, stride 2, padding 2, output padding 1).
    x: [B,H,W,I], kernel [5,5,I,O] -> [B,2H,2W,O].
    """
    return _subpixel(x, kernel)


def _kernel_gradient(large: Array, small: Array, kernel: Array) -> Array:
    """Gradient of sum(small * conv(large, kernel)) in the kernel."""
    return jax.vjp(lambda k: _conv(large, k, 2), kernel)[1](small)[0]


def _downsample_bwd(res: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = res
    return _subpixel(g, jnp.swapaxes(kernel, 2, 3)), _kernel_gradient(x, g, kernel)


def _upsample_bwd(res: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = res
    swapped = jnp.swapaxes(kernel, 2, 3)
    return _strided(g, swapped), jnp.swapaxes(_kernel_gradient(g, x, swapped), 2, 3)


downsample.defvjp(lambda x, k: (downsample(x, k), (x, k)), _downsample_bwd)
upsample.defvjp(lambda x, k: (upsample(x, k), (x, k)), _upsample_bwd)


def conv(params: dict, x: Array) -> Array:
    """Stride-1 convolution and bias, zero padding that keeps the size."""
    return _conv(x, params["kernel"], 1) + params["bias"]


def down(params: dict, x: Array) -> Array:
    """`downsample` and bias: [B,H,W,I] -> [B,H/2,W/2,O]."""
    return downsample(x, params["kernel"]) + params["bias"]


def up(params: dict, x: Array) -> Array:
    """`upsample` and bias: [B,H,W,I] -> [B,2H,2W,O]."""
    return upsample(x, params["kernel"]) + params["bias"]


@jax.custom_vjp
def lower_bound(x: Array, bound: float) -> Array:
    """max(x, bound), whose gradient also passes where it would push x up to the bound."""
    return jnp.maximum(x, bound)


def _lower_bound_fwd(x: Array, bound: float) -> tuple[Array, tuple[Array, Array]]:
    return jnp.maximum(x, bound), (x, bound)


def _lower_bound_bwd(res: tuple[Array, Array], g: Array) -> tuple[Array, None]:
    x, bound = res
    return jnp.where((x >= bound) | (g < 0), g, 0), None


lower_bound.defvjp(_lower_bound_fwd, _lower_bound_bwd)


def non_negative(stored: Array, *, minimum: float = 0.0) -> Array:
    """The value >= minimum that a stored (square-root) GDN parameter stands for."""
    bound = (minimum + PEDESTAL) ** 0.5
    return jnp.square(lower_bound(stored, bound)) - PEDESTAL


def gdn(params: dict, x: Array, *, inverse: bool = False) -> Array:
    """(Inverse) generalised divisive normalisation (Ballé et al. 2016, Eq. 2).

    x_i / sqrt(beta_i + sum_j gamma_ji x_j^2), or times the root for the inverse. x: [B,H,W,C].
    """
    beta = non_negative(params["beta"], minimum=BETA_MIN)
    gamma = non_negative(params["gamma"])
    norm = jnp.square(x) @ gamma + beta
    return x * (jnp.sqrt(norm) if inverse else lax.rsqrt(norm))


def leaky_relu(x: Array) -> Array:
    """x, or x / 100 where it is negative."""
    return jnp.where(x >= 0, x, x * 0.01)


def ste_round(x: Array) -> Array:
    """round(x) with the gradient of x (straight-through estimator)."""
    return x + lax.stop_gradient(jnp.round(x) - x)


def conv_init(key: Array, size: int, in_: int, out: int, *, gain: float = 1.0) -> dict:
    """Kernel uniform within gain / sqrt(fan in), as PyTorch draws it, and a bias of zero."""
    bound = gain / (size * size * in_) ** 0.5
    kernel = jax.random.uniform(key, (size, size, in_, out), minval=-bound, maxval=bound)
    return {"kernel": kernel, "bias": jnp.zeros(out)}


def gdn_init(channels: int) -> dict:
    """beta = 1, gamma = 0.1 on the diagonal (Ballé et al. 2016)."""
    return {
        "beta": jnp.sqrt(jnp.full(channels, 1.0 + PEDESTAL)),
        "gamma": jnp.sqrt(0.1 * jnp.eye(channels) + PEDESTAL),
    }
