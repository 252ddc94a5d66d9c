"""Seconds of `jvrc compress` and `jvrc decompress` as processes, beside `import jax`.

    python tests/benchmarks/bench_process.py IMAGE [--model jvrc2026] [--qstep 2] [--rounds 15]

In each round a process of each kind runs once, in turn, so that other work on the machine meets all
of them; the compilation cache is warm. What a command takes above `import jax` and above the
arithmetic, `jvrc.compress` or `jvrc.decompress` in a process that has done it before, is paired
within the round. CPU seconds, user and system, stand beside wall-clock seconds for a machine that
is busy with something else. Not for Windows (`os.wait4`).
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jvrc
from jvrc.io.images import read_image
from jvrc.runtime import memory

IMPORT = "-c", "import jax"
Times = tuple[float, float]  # wall-clock seconds, CPU seconds


def process(*argv: str) -> Times:
    """Return the times of a Python process, whose modules are compiled as pip leaves them."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    begin = time.perf_counter()
    child = subprocess.Popen([sys.executable, *argv], stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{' '.join(argv)} failed")
    return time.perf_counter() - begin, usage.ru_utime + usage.ru_stime


def call(function: Callable[[], object]) -> Times:
    """Return the times of a call in this process."""
    begin, cpu = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - begin, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", type=Path)
    parser.add_argument("--model", default="jvrc2026")
    parser.add_argument("--qstep", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    memory.keep_freed_memory()
    model, img = jvrc.load(args.model), read_image(args.image)
    data = jvrc.compress(model, img, args.qstep)
    jvrc.decompress(model, data)
    with tempfile.TemporaryDirectory() as folder:
        coded, restored = str(Path(folder, "a.jvrc")), str(Path(folder, "a.png"))
        cli, options = ("-m", "jvrc"), ("--model", args.model, "--force")
        compress = (*cli, "compress", str(args.image), "-o", coded, "--qstep", f"{args.qstep}")
        decompress = (*cli, "decompress", coded, "-o", restored)
        kinds = {
            "import jax": lambda: process(*IMPORT),
            "jvrc compress": lambda: process(*compress, *options),
            "compress": lambda: call(lambda: jvrc.compress(model, img, args.qstep)),
            "jvrc decompress": lambda: process(*decompress, *options),
            "decompress": lambda: call(lambda: jvrc.decompress(model, data)),
        }
        for _ in range(2):  # the second time writes what the first one could not keep
            process(*compress, *options)
            process(*decompress, *options)
        rounds = [{name: run() for name, run in kinds.items()} for _ in range(args.rounds)]
    for i, kind in enumerate(("wall-clock", "CPU")):
        found = {name: [r[name][i] for r in rounds] for name in kinds}
        medians = {name: statistics.median(seconds) for name, seconds in found.items()}
        print(kind, ", ".join(f"{name} {seconds:.3f} s" for name, seconds in medians.items()))
        for name in ("compress", "decompress"):
            columns = zip(found[f"jvrc {name}"], found["import jax"], found[name], strict=True)
            above = statistics.median(all_of - start - sums for all_of, start, sums in columns)
            print(f"  jvrc {name} above `import jax` and the arithmetic: {above:.3f} s")


if __name__ == "__main__":
    main()
