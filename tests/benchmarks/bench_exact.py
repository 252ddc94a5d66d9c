"""What the integer hyper-decoder costs in bytes and time, against the float one of its weights.

    python tests/benchmarks/bench_exact.py PICTURES [--model NAME|FILE] [--time]

PICTURES is a folder; each picture is compressed at each step by the codec, and again with the scale
indices and means that the float h_s gives. Prints mean bytes of both, the loss, and both PSNRs.
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
from jvrc import codec
from jvrc.evaluation.metrics import psnr
from jvrc.images import read_image
from jvrc.model import exact, transforms
from jvrc.tiling import map_tiles

QSTEPS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


@partial(jax.jit, static_argnums=0)
def float_h_s(config, params, z_hat, code, valid):
    """(scale index, mu) of a tile, from the float network."""
    z_hat = z_hat[None].astype(params["deconv0"]["kernel"].dtype)
    sigma, mu = transforms.h_s(config, params, z_hat, tuple(valid))
    log_sigma = exact.SCALES_PER_OCTAVE * jnp.log2(jnp.maximum(sigma[0], 1e-9)) - code
    index = jnp.round((log_sigma - exact.SCALE_CODE_MIN) / (1 << exact.INDEX_SHIFT))
    return jnp.clip(index, 0, exact.INDEX_COUNT - 1).astype(jnp.uint8), mu[0].astype(jnp.float32)


def float_entropy_parameters(params, z_q, code):
    """Stands in for codec._entropy_parameters: the float path."""
    medians, z_step = codec._z_grid(params, code)
    z_hat = (medians + z_step * z_q).astype(np.float32) * np.float32(2.0**exact.Z_EXPONENT)
    run = partial(float_h_s, params.config, params.params["h_s"])
    h_s = lambda tile, valid: run(tile, np.int32(code), valid)  # noqa: E731
    return map_tiles(h_s, (z_hat,), z_q.shape[:2], codec._MARGIN_HYPER)


def float_path():
    """Context: compress and decompress use the float h_s."""
    return mock.patch.object(codec, "_entropy_parameters", float_entropy_parameters)


def measure(model, img, qstep) -> tuple[int, float]:
    """(bytes, dB) of a round trip."""
    data = jvrc.compress(model, img, qstep)
    return len(data), psnr(img, jvrc.decompress(model, data))


def print_times(model, img, rounds: int = 21) -> None:
    """Medians of decompress, in turns; their ratio."""
    with float_path():
        data = {"float": jvrc.compress(model, img, 2.0)}
    data["integers"] = jvrc.compress(model, img, 2.0)
    seconds = {"float": [], "integers": []}
    for _ in range(rounds + 1):
        for name, stream in data.items():
            with float_path() if name == "float" else contextlib.nullcontext():
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
    found = {}
    for path in tqdm(paths, desc="pictures"):
        img = read_image(path)
        for qstep in QSTEPS:
            ours = measure(model, img, qstep)
            with float_path():
                found.setdefault(qstep, []).append((*ours, *measure(model, img, qstep)))
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
