"""Seconds and memory of whole images, in this process and as commands, with a shipped model.

    python tests/benchmarks/bench_codec.py IMAGE... [--model jvrc2026] [--qstep 2] [--rounds 7]

For each image: median seconds and MP/s of `compress` and `decompress` when everything is
compiled, and their shares by stage; then `jvrc compress` and `jvrc decompress` as processes of
their own, with a warm compilation cache: seconds, of these start and imports and the rest (tracing,
cache, files, computing), and the peak memory. CPU seconds stand beside wall-clock seconds, for a
machine that is busy with something else. Not for Windows (`os.wait4`).
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import stages
from stages import Seconds

import jvrc
from jvrc.frozen import zoo
from jvrc.io.images import read_image

# What a command costs before it does anything: the interpreter, and JAX.
STARTS = {"python": "pass", "python, jax": "import jax; jax.devices()"}

# A process inherits the peak memory of the one that starts it, so a small one starts the command.
_LAUNCHER = """
import os, subprocess, sys, time
begin = time.perf_counter()
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(child.pid, 0)
print(time.perf_counter() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def in_process(model: jvrc.FrozenModel, img: np.ndarray, qstep: float, rounds: int) -> int:
    """Print the table of both directions; return the bytes."""
    data = jvrc.compress(model, img, qstep)
    calls = {
        "compress": lambda measure: stages.compress(model, img, qstep, measure),
        "decompress": lambda measure: stages.decompress(model, data, measure),
    }
    assert calls["compress"](Seconds().measure) == data
    megapixels = img.shape[0] * img.shape[1] / 1e6
    for name, call in calls.items():
        call(Seconds().measure)
        found = []
        for _ in range(rounds):
            seconds = Seconds()
            with seconds.measure("all"):
                call(seconds.measure)
            found.append(seconds)
        median = {s: [statistics.median(f[s][i] for f in found) for i in (0, 1)] for s in found[0]}
        wall, cpu = median.pop("all")
        shares = ", ".join(f"{stage} {1e3 * pair[0]:.0f}" for stage, pair in median.items())
        print(
            f"  {name:12} {wall:7.3f} s ({cpu:.3f} CPU) {megapixels / wall:6.2f} MP/s   "
            f"milliseconds: {shares}"
        )
    return len(data)


def process(*argv: str) -> tuple[float, float, float]:
    """Runs a Python process: (seconds, CPU seconds, peak MB)."""
    command = [sys.executable, "-c", _LAUNCHER, sys.executable, *argv]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(argv)} failed: {result.stderr}")
    wall, cpu, peak = map(float, result.stdout.split()[-3:])
    return wall, cpu, peak / (1e6 if sys.platform == "darwin" else 1e3)


def print_process(name: str, rounds: int, *argv: str) -> None:
    found = [process(*argv) for _ in range(rounds)]
    wall, cpu, peak = (statistics.median(column) for column in zip(*found, strict=True))
    print(f"  {name:24} {wall:7.3f} s ({cpu:.3f} CPU) {peak:7.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    parser.add_argument("--model", default=zoo.DEFAULT)
    parser.add_argument("--qstep", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    model = jvrc.load(args.model)
    print(f"{args.model} {model.model_id}, step {args.qstep:g}, medians of {args.rounds} rounds")
    for name, code in STARTS.items():
        print_process(name, args.rounds, "-c", code)
    for path in args.images:
        img = read_image(path)
        print(f"{path.name}, {img.shape[0]}x{img.shape[1]}")
        size = in_process(model, img, args.qstep, args.rounds)
        print(f"  {size} bytes, {8 * size / (img.shape[0] * img.shape[1]):.3f} bpp")
        with tempfile.TemporaryDirectory() as folder:
            stream, restored = str(Path(folder) / "a.jvrc"), str(Path(folder) / "a.ppm")
            command = ["-m", "jvrc"]
            options = ["--force", f"--qstep={args.qstep}", f"--model={args.model}"]
            compress = [*command, "compress", str(path), "-o", stream, *options]
            process(*compress)  # fills the compilation cache
            process(*command, "decompress", stream, "-o", restored)
            print_process("jvrc compress", args.rounds, *compress)
            print_process(
                "jvrc decompress",
                args.rounds,
                *command,
                "decompress",
                stream,
                "-o",
                restored,
                "--force",
            )


if __name__ == "__main__":
    main()
