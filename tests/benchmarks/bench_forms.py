"""Counted operations and bytes of two forms of a layer, forwards and backwards.

    python tests/benchmarks/bench_forms.py [--batch 32] [--side 32] [--channels 192]

The depthwise 3x3 convolution of jvrc2026 as nine shifted products or as XLA's grouped convolution,
and the 5x5 transposed convolution of h_s as XLA's dilated convolution or in sub-pixel form. The
counts are XLA's, of the program compiled for this machine; nothing runs.
"""

import argparse
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax

from jvrc.model import convolution, residual

LAYOUT = ("NHWC", "HWIO", "NHWC")


def shifted(x: Array, kernel: Array) -> Array:
    return residual.depthwise({"kernel": kernel, "bias": jnp.zeros(x.shape[-1])}, x)


def grouped(x: Array, kernel: Array) -> Array:
    options = {"dimension_numbers": LAYOUT, "feature_group_count": x.shape[-1]}
    return lax.conv_general_dilated(x, kernel[:, :, None], (1, 1), "SAME", **options)


def subpixel(x: Array, kernel: Array) -> Array:
    b, h, w, _ = x.shape
    y = convolution.direct(x, convolution.subpixel_kernel(kernel), 1).reshape(b, h, w, 2, 2, -1)
    return y.transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, -1)


def dilated(x: Array, kernel: Array) -> Array:
    options = {"dimension_numbers": LAYOUT, "lhs_dilation": (2, 2)}
    return lax.conv_general_dilated(x, kernel[::-1, ::-1], (1, 1), [(2, 3)] * 2, **options)


def counts(form: Callable, *shapes: tuple[int, ...]) -> dict:
    """Return XLA's counts of a form and of its gradients in x and kernel."""

    def both(x: Array, kernel: Array, g: Array) -> tuple:
        y, pull_back = jax.vjp(form, x, kernel)
        return y, pull_back(g)

    x, kernel = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
    return jax.jit(both).lower(x, kernel, jax.eval_shape(form, x, kernel)).compile().cost_analysis()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("batch", 32), ("side", 32), ("channels", 192)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    x = (args.batch, args.side, args.side, args.channels)
    narrow = (args.batch, args.side // 4, args.side // 4, args.channels)
    depthwise, transposed = (3, 3, args.channels), (5, 5, args.channels, args.channels)
    print("| form | Gflop | MB |\n|---|---|---|")
    for name, form, shapes in (
        ("depthwise, nine shifted products", shifted, (x, depthwise)),
        ("depthwise, grouped convolution", grouped, (x, depthwise)),
        ("transposed, sub-pixel", subpixel, (narrow, transposed)),
        ("transposed, dilated", dilated, (narrow, transposed)),
    ):
        cost = counts(form, *shapes)
        print(f"| {name} | {cost['flops'] / 1e9:.3g} | {cost['bytes accessed'] / 1e6:.4g} |")


if __name__ == "__main__":
    main()
