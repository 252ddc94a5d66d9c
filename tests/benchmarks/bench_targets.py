"""Targets of bytes and PSNR on one image: what they lead to, and the time beside a plain encode.

python tests/benchmarks/bench_targets.py IMAGE [--model NAME]

Times are of the process's CPUs; each search takes turns with a plain encode at qstep 2.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np

import jvrc
from jvrc.cli.common import library
from jvrc.evaluation.metrics import psnr
from jvrc.io.images import read_image
from jvrc.qstep import QSTEP_MAX, QSTEP_MIN


def seconds_of(function: Callable[[], bytes]) -> tuple[bytes, float, float]:
    """Return what a function returns, and its wall-clock and CPU time."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = function()
    return found, time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image")
    parser.add_argument("--model", default="jvrc2026")
    args = parser.parse_args()
    library()
    model, img = jvrc.load(args.model), read_image(args.image)
    jvrc.decompress(model, jvrc.compress(model, img, 2.0))  # compile
    sizes = [len(jvrc.compress(model, img, qstep)) for qstep in (QSTEP_MAX, QSTEP_MIN)]
    best = [
        psnr(img, jvrc.decompress(model, jvrc.compress(model, img, qstep)))
        for qstep in (QSTEP_MAX, QSTEP_MIN)
    ]
    targets = [{"target_bytes": int(n)} for n in np.geomspace(1.01 * sizes[0], sizes[1], 20)]
    targets += [{"target_psnr": round(float(p), 2)} for p in np.linspace(*best, 10)[1:-1]]
    print("| target | file | qstep | wall-clock time | CPU time |\n|---|---|---|---|---|")
    for target in targets:
        _, *plain = seconds_of(lambda: jvrc.compress(model, img, 2.0))
        data, *taken = seconds_of(lambda options=target: jvrc.compress(model, img, **options))
        (value,) = target.values()
        if "target_psnr" in target:
            found = psnr(img, jvrc.decompress(model, data))
            text = f"{value:.2f} dB | {found - value:+.3f} dB"
        else:
            text = f"{value} bytes | {100 * (len(data) / value - 1):+.2f} %"
        ratios = " | ".join(f"{a / b:.2f}" for a, b in zip(taken, plain, strict=True))
        print(f"| {text} | {jvrc.inspect(data).qstep:.3f} | {ratios} |", flush=True)


if __name__ == "__main__":
    main()
