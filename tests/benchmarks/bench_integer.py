"""What the integer hyper-decoder costs in bytes and time, against the float one of its weights.

    python tests/benchmarks/bench_integer.py IMAGES [--model NAME|FILE] [--time]

IMAGES is a folder; each image is compressed at each step by the codec, and again with the scale
indices and means that the float h_s (and context model) gives. Prints mean bytes of both, the loss,
and both PSNRs.
With --time instead: seconds to decompress the first image both ways, in turns.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
from float_coders import float_coder
from tqdm import tqdm

import jvrc
from jvrc.codec.image.decoder import decode_image
from jvrc.codec.image.encoder import encode_image
from jvrc.codec.latent_coders.by_architecture import coder_of
from jvrc.coding import packing
from jvrc.evaluation.metrics import psnr
from jvrc.io.images import read_image
from jvrc.qstep import qstep_code_of

QSTEPS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


def measure(model, img, qstep, coder_of) -> tuple[int, float]:
    """(bytes, dB) of a round trip."""
    coded = encode_image(model, img, qstep_code_of(qstep), coder_of=coder_of)
    return len(packing.pack(coded)), psnr(img, decode_image(model, coded, coder_of=coder_of))


def measure_all(model, paths, coder_of) -> dict[float, list]:
    """qstep -> (bytes, dB) of each image."""
    images = [read_image(path) for path in tqdm(paths, desc="reading")]
    return {
        q: [measure(model, img, q, coder_of) for img in tqdm(images, desc=f"{q:g}")] for q in QSTEPS
    }


def print_times(model, img, rounds: int = 21) -> None:
    """Medians of decoding, in turns; their ratio."""
    coders = {"float": float_coder, "integers": coder_of}
    coded = {k: encode_image(model, img, qstep_code_of(2.0), coder_of=c) for k, c in coders.items()}
    seconds = {name: [] for name in coders}
    for _ in range(rounds + 1):
        for name, coder in coders.items():
            begin = time.perf_counter()
            decode_image(model, coded[name], coder_of=coder)
            seconds[name].append(time.perf_counter() - begin)
    median = {name: statistics.median(found[1:]) for name, found in seconds.items()}
    print(f"{img.shape[0]}x{img.shape[1]}, qstep 2, medians of {rounds} rounds in turns")
    print(", ".join(f"{name} {1e3 * value:.0f} ms" for name, value in median.items()), end="")
    print(f", ratio {median['integers'] / median['float']:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("--model", default="mbt2018-mean")
    parser.add_argument("--time", action="store_true", help="seconds instead of bytes")
    args = parser.parse_args()
    model = jvrc.load(args.model)
    paths = sorted(p for p in args.images.iterdir() if p.suffix in (".png", ".jpg", ".ppm"))
    if args.time:
        print_times(model, read_image(paths[0]))
        return
    floats = measure_all(model, paths, float_coder)
    integers = measure_all(model, paths, coder_of)
    found = {q: np.concatenate([integers[q], floats[q]], axis=1) for q in QSTEPS}
    print(f"{args.model} {model.model_id}, {len(paths)} images, means")
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
