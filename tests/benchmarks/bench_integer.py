"""What the integer hyper-decoder costs in bytes and time, against the float one of its weights.

    python tests/benchmarks/bench_integer.py PICTURES [--model NAME|FILE] [--time]

PICTURES is a folder; each picture is compressed at each step by the codec, and again with the scale
indices and means that the float h_s (and context model) gives. Prints mean bytes of both, the loss,
and both PSNRs.
With --time instead: seconds to decompress the first picture both ways, in turns.
"""

import argparse
import contextlib
import statistics
import time
from functools import partial
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import jvrc
from jvrc.codec import image as codec
from jvrc.codec import wavefront
from jvrc.codec.tiling import map_tiles
from jvrc.evaluation.metrics import psnr
from jvrc.integer import context as integer_context
from jvrc.integer import hyper_synthesis
from jvrc.io.images import read_image
from jvrc.model import context, layers, transforms

QSTEPS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


@partial(jax.jit, static_argnums=0)
def float_h_s(config, params, z_hat, code, valid):
    """(scale index, mu) of a tile, from the float network."""
    z_hat = z_hat[None].astype(params["deconv0"]["kernel"].dtype)
    sigma, mu = transforms.h_s(config, params, z_hat, tuple(valid))
    log_sigma = hyper_synthesis.SCALES_PER_OCTAVE * jnp.log2(jnp.maximum(sigma[0], 1e-9)) - code
    index = jnp.round(
        (log_sigma - hyper_synthesis.SCALE_CODE_MIN) / (1 << hyper_synthesis.INDEX_SHIFT)
    )
    return jnp.clip(index, 0, hyper_synthesis.INDEX_COUNT - 1).astype(jnp.uint8), mu[0].astype(
        jnp.float32
    )


def float_entropy_parameters(params, z_q, code):
    """Stands in for codec._entropy_parameters: the float path."""
    medians, z_step = codec._z_grid(params, code)
    z_hat = (medians + z_step * z_q).astype(np.float32) * np.float32(
        2.0**hyper_synthesis.Z_EXPONENT
    )
    run = partial(float_h_s, params.config, params.params["h_s"])
    h_s = lambda tile, valid: run(tile, np.int32(code), valid)  # noqa: E731
    return map_tiles(h_s, (z_hat,), z_q.shape[:2], codec._MARGIN_HYPER)


def float_psi(params, z_q, code):
    """Stands in for codec._psi: what psi adds to the first layer behind the context."""
    medians, z_step = codec._z_grid(params, code)
    z_hat = (medians + z_step * z_q).astype(np.float32) * np.float32(
        2.0**hyper_synthesis.Z_EXPONENT
    )
    return _float_psi(params.config, params.params, z_hat[None])


@partial(jax.jit, static_argnums=0)
def _float_psi(config, params, z_hat):
    psi = transforms.hyper_layers(config, params["h_s"], z_hat)[-1][0]
    layer = params["entropy_parameters"]["conv0"]
    return psi @ layer["kernel"][0, 0, : 2 * config.M] + layer["bias"]


def float_context(model):
    """What takes the place of exact_context's functions: the same loop on the float networks."""
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
        log_sigma = jnp.round(
            hyper_synthesis.SCALES_PER_OCTAVE * jnp.log2(jnp.maximum(sigma, 1e-9))
        )
        return log_sigma.astype(jnp.int32), jnp.round(mu * 64).astype(jnp.int32)  # fine enough

    def seen_latents(network, q, mu, delta, qstep):
        return mu / 64 + qstep / 1024 * jnp.sign(q) * (jnp.abs(q) - delta / 512)

    assert np.all(model.network.mu_exponent == hyper_synthesis.MU_EXPONENT)
    return {"parameters": parameters, "seen_latents": seen_latents}


@contextlib.contextmanager
def float_path(model):
    """Context: compress and decompress use the float networks."""
    with contextlib.ExitStack() as stack:
        if not model.config.has_context:
            change = mock.patch.object(codec, "_entropy_parameters", float_entropy_parameters)
            stack.enter_context(change)
        else:
            stack.enter_context(mock.patch.object(codec, "_psi", float_psi))
            stack.enter_context(mock.patch.multiple(integer_context, **float_context(model)))
            # traced anew, with the functions above
            run = jax.jit(wavefront._run.__wrapped__, static_argnums=(0, 1))
            stack.enter_context(mock.patch.object(wavefront, "_run", run))
        yield


def measure(model, img, qstep) -> tuple[int, float]:
    """(bytes, dB) of a round trip."""
    data = jvrc.compress(model, img, qstep)
    return len(data), psnr(img, jvrc.decompress(model, data))


def measure_all(model, paths) -> dict[float, list]:
    """step -> (bytes, dB) of each picture."""
    pictures = [read_image(path) for path in tqdm(paths, desc="reading")]
    return {q: [measure(model, img, q) for img in tqdm(pictures, desc=f"{q:g}")] for q in QSTEPS}


def print_times(model, img, rounds: int = 21) -> None:
    """Medians of decompress, in turns; their ratio."""
    with float_path(model):
        data = {"float": jvrc.compress(model, img, 2.0)}
    data["integers"] = jvrc.compress(model, img, 2.0)
    seconds = {"float": [], "integers": []}
    for _ in range(rounds + 1):
        for name, stream in data.items():
            with float_path(model) if name == "float" else contextlib.nullcontext():
                begin = time.perf_counter()
                jvrc.decompress(model, stream)
                seconds[name].append(time.perf_counter() - begin)
    median = {name: statistics.median(found[1:]) for name, found in seconds.items()}
    print(f"{img.shape[0]}x{img.shape[1]}, step 2, medians of {rounds} rounds in turns")
    print(", ".join(f"{name} {1e3 * value:.0f} ms" for name, value in median.items()), end="")
    print(f", ratio {median['integers'] / median['float']:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--model", default="mbt2018-mean")
    parser.add_argument("--time", action="store_true", help="seconds instead of bytes")
    args = parser.parse_args()
    model = jvrc.load(args.model)
    paths = sorted(p for p in args.pictures.iterdir() if p.suffix in (".png", ".jpg", ".ppm"))
    if args.time:
        print_times(model, read_image(paths[0]))
        return
    with float_path(model):
        floats = measure_all(model, paths)
    integers = measure_all(model, paths)
    found = {q: np.concatenate([integers[q], floats[q]], axis=1) for q in QSTEPS}
    print(f"{args.model} {model.model_id}, {len(paths)} pictures, means")
    print("| step | bytes, float | bytes, integers | more | PSNR, float | PSNR, integers |")
    print("|---|---|---|---|---|---|")
    for qstep, rows in found.items():
        size, quality, float_size, float_quality = np.mean(rows, axis=0)
        print(
            f"| {qstep:g} | {float_size:.0f} | {size:.0f} | {100 * (size / float_size - 1):+.3f} % "
            f"| {float_quality:.3f} | {quality:.3f} |"
        )


if __name__ == "__main__":
    main()
