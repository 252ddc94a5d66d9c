"""Convolutions, GDN, rounding and bounds: the differentiable primitives of the networks.

Images and features are NHWC float32. Kernels are stored [height, width, in, out], those of
transposed convolutions too, so that a PyTorch kernel maps onto ours by one transposition:
`conv.weight.transpose(2, 3, 1, 0)` and `deconv.weight.transpose(2, 3, 0, 1)`.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
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


# On a CPU some shapes have faster ways than XLA's convolution; elsewhere it has its own. What pays
# was measured with XLA of jaxlib 0.10, I and O = 64 … 480, 32 … 98,304 positions, by CPU time.


def _by_platform(on_cpu: Callable, default: Callable, x: Array, *others: Array) -> Array:
    if x.dtype != jnp.float32:
        return default(x, *others)
    return lax.platform_dependent(x, *others, cpu=on_cpu, default=default)


def _pays(shape: tuple[int, ...], kernel: Array, channels: int, positions: int) -> bool:
    """Whether `winograd` pays for features [B,H,W,...]: from how many channels and positions on."""
    b, h, w = shape[:3]
    whole = h % winograd.BLOCK == 0 == w % winograd.BLOCK
    return whole and min(kernel.shape[2:]) >= channels and b * h * w >= positions


def _halved(x: Array) -> tuple[int, int, int]:
    return x.shape[0], x.shape[1] // 2, x.shape[2] // 2


def _strided(x: Array, kernel: Array) -> Array:
    return _by_platform(_strided_on_cpu, partial(_conv, stride=2), x, kernel)


def _strided_on_cpu(x: Array, kernel: Array) -> Array:
    if _pays(_halved(x), kernel, 128, 1024):
        return winograd.strided(x, block_kernel(kernel))
    return _windowed(x, kernel, 2)


def _subpixel(x: Array, kernel: Array) -> Array:
    default = partial(_subpixel_by, partial(_conv, stride=1))
    return _by_platform(_subpixel_on_cpu, default, x, kernel)


def _subpixel_on_cpu(x: Array, kernel: Array) -> Array:
    if kernel.shape[3] <= 4:
        return _planes(x, kernel)
    quick = winograd.convolve if _pays(x.shape, kernel, 64, 384) else partial(_windowed, stride=1)
    return _subpixel_by(quick, x, kernel)


def _subpixel_by(convolve: Callable, x: Array, kernel: Array) -> Array:
    y = convolve(x, subpixel_kernel(kernel)).reshape(*x.shape[:3], 2, 2, -1)
    return _interleaved(y.transpose(0, 1, 3, 2, 4, 5))


def _interleaved(y: Array) -> Array:
    """[B,H,2,W,2,O] -> [B,2H,2W,O]."""
    b, h, _, w, _, out = y.shape
    return y.reshape(b, 2 * h, 2 * w, out)


def _windowed(x: Array, kernel: Array, stride: int) -> Array:
    """`_conv`; for few positions one product with what all of them see, as XLA's is slow there."""
    b, h, w, _ = x.shape
    if b * h * w > 64 * stride**2:
        return _conv(x, kernel, stride)
    size = len(kernel)
    rows, cols = (np.arange(0, n, stride)[:, None] + np.arange(size) for n in (h, w))
    x = jnp.pad(x, ((0, 0), (size // 2,) * 2, (size // 2,) * 2, (0, 0)))
    seen = x[:, rows[:, None, :, None], cols[None, :, None, :]]  # [B,h,w,size,size,I]
    return seen.reshape(*seen.shape[:3], -1) @ kernel.reshape(-1, kernel.shape[3])


# Of the inputs that reach an even and an odd output pixel: place from the one before, and tap
_REACH = (((0, 4), (1, 2), (2, 0)), ((1, 3), (2, 1)))


def _planes(x: Array, kernel: Array) -> Array:
    """`_subpixel` to few channels, as a picture's: one product, then shifted sums of its planes."""
    b, h, w, in_ = x.shape
    taps = kernel.transpose(0, 1, 3, 2).reshape(-1, in_)
    planes = lax.dot_general(taps, x.reshape(-1, in_), (((1,), (1,)), ((), ())))
    planes = jnp.pad(planes.reshape(5, 5, -1, b, h, w), ((0, 0),) * 4 + ((1, 1), (1, 1)))
    y = [
        sum(planes[u, v, :, :, i : i + h, j : j + w] for i, u in rows for j, v in cols)
        for rows in _REACH
        for cols in _REACH
    ]
    return _interleaved(jnp.stack(y).reshape(2, 2, -1, b, h, w).transpose(3, 4, 0, 5, 1, 2))


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

    def direct(large: Array, small: Array) -> Array:
        return jax.linear_transpose(lambda k: _conv(large, k, 2), kernel)(small)[0]

    def on_cpu(large: Array, small: Array) -> Array:
        gradient = winograd.strided_kernel_gradient(large, small)
        return jax.linear_transpose(block_kernel, kernel)(gradient)[0]

    pays = _pays(small.shape, kernel, 128, 1024)
    return _by_platform(on_cpu if pays else direct, direct, large, small)


def _downsample_bwd(res: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = res
    return _subpixel(g, jnp.swapaxes(kernel, 2, 3)), _kernel_gradient(x, g, kernel)


def _upsample_bwd(res: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = res
    swapped = jnp.swapaxes(kernel, 2, 3)
    return _strided(g, swapped), jnp.swapaxes(_kernel_gradient(g, x, swapped), 2, 3)


downsample.defvjp(lambda x, k: (downsample(x, k), (x, k)), _downsample_bwd)
upsample.defvjp(lambda x, k: (upsample(x, k), (x, k)), _upsample_bwd)


@jax.custom_vjp
def _stride_one(x: Array, kernel: Array) -> Array:
    direct = partial(_conv, stride=1)
    pays = len(kernel) == 3 and _pays(x.shape, kernel, 128, 1024)
    return _by_platform(winograd.convolve if pays else direct, direct, x, kernel)


def _stride_one_bwd(res: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = res
    of_x = _stride_one(g, jnp.swapaxes(kernel[::-1, ::-1], 2, 3))
    return of_x, jax.linear_transpose(lambda k: _conv(x, k, 1), kernel)(g)[0]


_stride_one.defvjp(lambda x, k: (_stride_one(x, k), (x, k)), _stride_one_bwd)


def add_bias(x: Array, bias: Array) -> Array:
    """Return x [...,C] plus a bias [C]."""
    return x + jnp.broadcast_to(bias, x.shape)


def conv(params: dict, x: Array) -> Array:
    """Stride-1 convolution and bias, zero padding that keeps the size."""
    return add_bias(_stride_one(x, params["kernel"]), params["bias"])


def down(params: dict, x: Array) -> Array:
    """`downsample` and bias: [B,H,W,I] -> [B,H/2,W/2,O]."""
    return add_bias(downsample(x, params["kernel"]), params["bias"])


def up(params: dict, x: Array) -> Array:
    """`upsample` and bias: [B,H,W,I] -> [B,2H,2W,O]."""
    return add_bias(upsample(x, params["kernel"]), params["bias"])


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
    return _normalised(inverse, x, gamma, beta)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _normalised(inverse: bool, x: Array, gamma: Array, beta: Array) -> Array:
    return x * _factor(inverse, x, gamma, beta)


def _factor(inverse: bool, x: Array, gamma: Array, beta: Array) -> Array:
    norm = add_bias(jnp.square(x) @ gamma, beta)
    return jnp.sqrt(norm) if inverse else lax.rsqrt(norm)


def _normalised_fwd(inverse: bool, x: Array, gamma: Array, beta: Array) -> tuple[Array, tuple]:
    factor = _factor(inverse, x, gamma, beta)
    return x * factor, (x, gamma, factor)


def _normalised_bwd(inverse: bool, res: tuple, g: Array) -> tuple[Array, Array, Array]:
    x, gamma, factor = res
    slope = 0.5 / factor if inverse else -0.5 * factor**3  # of the factor in the norm
    # the barrier: fused into each of its three users it would be computed three times
    of_norm = lax.optimization_barrier(g * x * slope)
    of_x = g * factor + 2 * x * (of_norm @ gamma.T)
    flat = of_norm.reshape(-1, x.shape[-1])
    return of_x, jnp.square(x).reshape(flat.shape).T @ flat, flat.sum(0)


_normalised.defvjp(_normalised_fwd, _normalised_bwd)


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
