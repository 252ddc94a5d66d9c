"""Residual blocks of depthwise convolutions, and their modulation by the quantisation step Delta.

Features are [B,H,W,C], float32. `valid` names the part of a tile inside the image, as in
jvrc.model.transforms.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from jvrc.model.transforms import Valid, within

_in_bfloat16 = ContextVar("_in_bfloat16", default=False)


@contextmanager
def bfloat16_products(on: bool = True) -> Iterator[None]:
    """Let `dense` round its operands to bfloat16, while the body is traced.

    What a residual block computes between its products is then stored in bfloat16.
    """
    token = _in_bfloat16.set(on)
    try:
        yield
    finally:
        _in_bfloat16.reset(token)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def bfloat16_product(x: Array, kernel: Array, dtype: DTypeLike = jnp.float32) -> Array:
    """Return x @ kernel [...,O] of operands in bfloat16, summed in float32, stored in `dtype`.

    So are the gradients' products; that of x is stored in the dtype of x.
    """
    return _bfloat16_dot(x, kernel, (x.ndim - 1, 0), dtype)


def _bfloat16_dot(a: Array, b: Array, axes: tuple[int, int], dtype: DTypeLike) -> Array:
    a, b = a.astype(jnp.bfloat16), b.astype(jnp.bfloat16)
    contracted = (((axes[0],), (axes[1],)), ((), ()))
    return lax.dot_general(a, b, contracted, preferred_element_type=dtype)


def _bfloat16_product_fwd(x: Array, kernel: Array, dtype: DTypeLike) -> tuple[Array, tuple]:
    kept = (x.astype(jnp.bfloat16), kernel, jnp.zeros((), x.dtype))
    return bfloat16_product(x, kernel, dtype), kept


def _bfloat16_product_bwd(dtype: DTypeLike, res: tuple, g: Array) -> tuple[Array, Array]:
    del dtype
    x, kernel, like = res
    flat = x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1])
    x_gradient = _bfloat16_dot(g, kernel, (g.ndim - 1, 1), like.dtype)
    return x_gradient, _bfloat16_dot(*flat, (0, 0), jnp.float32)


bfloat16_product.defvjp(_bfloat16_product_fwd, _bfloat16_product_bwd)


def dense(params: dict, x: Array) -> Array:
    """1x1 convolution, with a bias if there is one: [...,I] -> [...,O]."""
    rounds = _in_bfloat16.get() and params["kernel"].dtype == jnp.float32
    y = bfloat16_product(x, params["kernel"]) if rounds else x @ params["kernel"]
    return _biased(params, y)


def _into(params: dict, x: Array) -> Array:
    """`dense`, whose product is stored in bfloat16 with `bfloat16_products`."""
    if not _in_bfloat16.get():
        return dense(params, x)
    return _biased(params, bfloat16_product(x, params["kernel"], jnp.bfloat16).astype(x.dtype))


def _out_of(params: dict, x: Array) -> Array:
    """`dense`, whose input and its gradient are stored in bfloat16 with `bfloat16_products`."""
    return dense(params, x.astype(jnp.bfloat16) if _in_bfloat16.get() else x)


def _biased(params: dict, y: Array) -> Array:
    return y + params["bias"][None, None, None] if "bias" in params else y


def depthwise(params: dict, x: Array) -> Array:
    """Depthwise 3x3 convolution and bias, zero padding: kernel [3,3,C].

    Nine shifted products: on a CPU grouped convolutions of XLA take 10 to 40 times as long.
    """
    _, h, w, _ = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    kernel = params["kernel"][:, :, None, None, None]
    taps = [padded[:, i : i + h, j : j + w] * kernel[i, j] for i in range(3) for j in range(3)]
    return sum(taps[1:], taps[0]) + params["bias"][None, None, None]


def delta_features(params: dict, qstep: Array) -> Array:
    """Return features [B,E] of Delta [B]: tanh(log2(Delta) / 4 * kernel + bias).

    Frozen models also have a `range` [2], that of Delta in training, to which Delta is clipped.
    """
    if "range" in params:
        qstep = jnp.clip(qstep, params["range"][0], params["range"][1])
    return jnp.tanh(jnp.log2(qstep)[:, None] / 4 @ params["kernel"] + params["bias"][None])


def film(params: dict | None, features: Array | None, x: Array) -> Array:
    """Scale and shift each channel of x by features [B,E] of Delta; x itself where there are none.

    Feature-wise linear modulation (Perez et al. 2018): x * (1 + s) + t, [s, t] = features @ kernel.
    """
    if params is None or features is None:
        return x
    s, t = jnp.split((features @ params["kernel"])[:, None, None], 2, axis=-1)
    return x * (1 + s) + t


def after_film(params: dict, film: dict | None, features: Array) -> dict:
    """Return the dense layer that computes `dense(params, film(...))` at the features [1,E] given.

    The scale and the shift of each input channel fold into the kernel and the bias.
    """
    if film is None:
        return params
    s, t = jnp.split((features @ film["kernel"])[0], 2)
    bias = t @ params["kernel"]
    bias = params["bias"] + bias if "bias" in params else bias
    return {"kernel": (1 + s)[:, None] * params["kernel"], "bias": bias}


def before_film(params: dict, film: dict | None, features: Array) -> dict:
    """Return the dense layer that computes `film(dense(params, ...))` at the features [1,E]."""
    if film is None:
        return params
    s, t = jnp.split((features @ film["kernel"])[0], 2)
    return {"kernel": params["kernel"] * (1 + s)[None], "bias": params["bias"] * (1 + s) + t}


def residual_block(
    params: dict, x: Array, features: Array | None, valid: Valid, stride: int
) -> Array:
    """Mix neighbours, then channels, each added to its input: [B,H,W,C] -> [B,H,W,C].

        x + out(depthwise(relu(in(film0(x)))))      then      x + back(fold(relu(wide(film1(x)))))

    fold sums the parts of the wide layer that `back` has one input for. stride: pixels to a sample,
    for `valid`; what the depthwise convolution sees outside of the image is zero.
    """
    h = jax.nn.relu(_into(params["in"], film(params.get("film0"), features, x)))
    x = x + _out_of(params["out"], depthwise(params["depthwise"], within(h, valid, stride)))
    u = jax.nn.relu(_into(params["wide"], film(params.get("film1"), features, x)))
    parts = jnp.split(u, u.shape[-1] // params["back"]["kernel"].shape[0], axis=-1)
    return x + _out_of(params["back"], sum(parts[1:], parts[0]))


def block_count(params: dict) -> int:
    """Return how many of block0, block1, … the parameters hold."""
    return sum(name.startswith("block") for name in params)
