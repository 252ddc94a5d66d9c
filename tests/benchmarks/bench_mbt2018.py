"""Speed of mbt2018 beside CompressAI's mbt2018-vbr: both with random weights, on the same photo.

    python tests/benchmarks/bench_mbt2018.py PICTURE --peer PYTHON [--rounds 5] [--n 192] [--m 320]

PYTHON: the interpreter of another environment with torch and compressai (1.2.8 was tried), say
/tmp/peer/bin/python. This script starts itself there as a worker that answers JSON lines, so that
one run times both sides in turns, each while the other waits. Same N, M, step and threads, float32;
one warm-up call of each; medians. Neither side's start, compilation and reading of files count.

Random latents lie near zero, and then nothing is coded. So the last layer of g_a is scaled for the
picture: channel c of y has mean 0 and standard deviation sigma_c, on both sides; and the entropy
model predicts about sigma_c. The share of symbols that aren't zero is then like a trained model's.

jvrc keeps freed memory, as its commands do, and the worker does the same by glibc's environment
variables; --no-keep-memory leaves both as they are. Not on Windows.

Run it on an idle machine: work beside it slows PyTorch's small operations, whose threads wait for
each other thousands of times, much more than it slows jvrc, and the ratios come out too high. The
load average stands in the output, and what other processes used while the turns ran, in cores.
"""

import argparse
import contextlib
import importlib.machinery
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

# At the top only what the worker's environment has too: jvrc and JAX are imported by `Ours`.

AIMS = {"encode": 15, "decode": 20}  # times as fast
SIGMAS = (0.02, 3.0)  # of y's channels, the first and the last
CALM = 0.2  # seconds between turns, in which the other side's threads stop spinning
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**34)}
# Functions of jvrc.codec, and of its module `wavefront`, by stage.
STAGES = {
    "analyse": "g_a + h_a",
    "_psi": "h_s",
    "wavefront.encode": "wavefronts",
    "wavefront.decode": "wavefronts",
    "_encode_stream": "range coder",
    "_decode_stream": "range coder (z)",
    "_synthesise": "g_s",
}


def sigmas(channels: int) -> np.ndarray:
    return np.geomspace(*SIGMAS, channels).astype(np.float32)


def gain_and_shift(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What makes the channels of y [samples,M] have mean 0 and deviations `sigmas`."""
    gain = sigmas(y.shape[1]) / y.std(0)
    return gain, -y.mean(0) * gain


def read(path: str | Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def timed(call: Callable, *args) -> tuple[float, Any]:
    begin = time.perf_counter()
    result = call(*args)
    return time.perf_counter() - begin, result


# jvrc


class Ours:
    """jvrc's side: a frozen model with random weights, and seconds by stage."""

    def __init__(self, img: np.ndarray, n: int, m: int, qstep: float) -> None:
        import jax

        jax.config.update("jax_platforms", "cpu")
        import jvrc
        from jvrc import codec, freezing, frozen
        from jvrc.model.config import Config

        config = Config("mbt2018", N=n, M=m)
        model = freezing.freeze(config, random_params(config, img), qstep_range=(1.0, 16.0))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "random.safetensors"
            frozen.save(model, path)
            model = jvrc.load(path)
        self.encode = lambda: jvrc.compress(model, img, qstep)
        self.decode = lambda data: jvrc.decompress(model, data)
        self.latents = lambda data: codec.decode_latents(model, data)
        self.versions = versions("jvrc", "jax", "jaxlib", "numpy")
        self.codec = codec


def random_params(config: Any, img: np.ndarray) -> dict:
    import jax

    from jvrc.model import architectures, transforms

    params = jax.jit(architectures.init_params, static_argnums=1)(jax.random.key(0), config)
    rows, columns = (size // 64 * 64 for size in img.shape[:2])
    x = img[None, :rows, :columns].astype(np.float32) / 255
    y = jax.jit(transforms.g_a, static_argnums=0)(config, params["g_a"], x)
    gain, shift = gain_and_shift(np.asarray(y).reshape(-1, config.M))
    last = params["g_a"]["conv3"]
    last["kernel"], last["bias"] = last["kernel"] * gain, last["bias"] * gain + shift
    # the entropy parameters begin as the identity of what h_s and the context say of log(sigma)
    params["h_s"]["conv2"]["kernel"] *= 0.1
    last = params["entropy_parameters"]["conv2"]
    last["bias"] = last["bias"].at[: config.M].add(np.log(sigmas(config.M)))
    return params


@contextlib.contextmanager
def stages_timed(codec: Any, seconds: dict[str, float]) -> Iterator[None]:
    """Adds the seconds of each stage to `seconds`; all of them wait for their results anyway."""

    def wrapped(function: Callable, stage: str) -> Callable:
        def run(*args):
            took, result = timed(function, *args)
            seconds[stage] += took
            return result

        return run

    with contextlib.ExitStack() as stack:
        for name, stage in STAGES.items():
            *module, attribute = name.split(".")
            owner = getattr(codec, module[0]) if module else codec
            new = wrapped(getattr(owner, attribute), stage)
            stack.enter_context(mock.patch.object(owner, attribute, new))
        yield


# CompressAI, in a process of its own


class Peer:
    """The worker: answers dicts with dicts."""

    def __init__(self, python: str, keep_memory: bool) -> None:
        command = [python, str(Path(__file__).resolve()), "--worker"]
        env = os.environ | (KEEP_MEMORY if keep_memory else {})
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, text=True)

    def ask(self, **question) -> dict:
        print(json.dumps(question), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"the worker ended at {question['do']!r}; its message is above")
        return json.loads(answer)

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *exc) -> None:
        self.process.stdin.close()
        self.process.wait()


class StandIns:
    """Imports mocks for packages that compressai imports, these models don't use, and are missing.

    Last in sys.meta_path, so asked only for what nothing else finds.
    """

    NAMES = ("pandas", "pyntcloud", "requests", "torch_geometric", "torchvision")

    def __init__(self) -> None:
        self.missing = [name for name in self.NAMES if importlib.util.find_spec(name) is None]

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.partition(".")[0] not in self.missing:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> Any:
        return mock.MagicMock(name=spec.name)

    def exec_module(self, module: Any) -> None:
        pass


class Worker:
    """CompressAI's side: a method for each question."""

    def load(self, path: str, n: int, m: int, qstep: float, threads: int) -> dict:
        import torch

        sys.meta_path.append(StandIns())
        from compressai.models.vbr import JointAutoregressiveHierarchicalPriorsVbr

        torch.set_num_threads(threads)
        torch.manual_seed(0)
        img = torch.from_numpy(read(path).copy()).permute(2, 0, 1)[None].float() / 255
        height, width = img.shape[2:]  # its users pad the picture themselves
        pads = (0, -width % 64, 0, -height % 64)
        self.x = torch.nn.functional.pad(img, pads, mode="replicate")
        self.net = JointAutoregressiveHierarchicalPriorsVbr(N=n, M=m).eval()
        self.options = {"stage": 2, "inputscale": torch.tensor(1 / qstep)}
        with torch.no_grad():
            y = self.net.g_a(self.x)[0].flatten(1).T.numpy()
            gain, shift = map(torch.from_numpy, gain_and_shift(y))
            last = self.net.g_a[-1]
            last.weight *= gain[:, None, None, None]
            last.bias.copy_(last.bias * gain + shift)
            last = self.net.entropy_parameters[-1]
            last.weight *= 0.1
            last.bias.copy_(torch.cat([torch.from_numpy(sigmas(m)), torch.zeros(m)]))
        self.net.update()
        found = versions("compressai", "torch", "numpy")
        return {"versions": found, "threads": torch.get_num_threads()}

    def encode(self) -> dict:
        import torch

        with torch.no_grad():
            seconds, self.coded = timed(lambda: self.net.compress(self.x, **self.options))
        y, z = (len(strings[0]) for strings in self.coded["strings"])
        return {"seconds": seconds, "y": y, "z": z}

    def decode(self) -> dict:
        import torch

        coded = self.coded
        with torch.no_grad():
            seconds, _ = timed(
                lambda: self.net.decompress(coded["strings"], coded["shape"], **self.options)
            )
        return {"seconds": seconds}

    def count(self) -> dict:
        """`encode`, and the share of y's symbols that aren't zero: they pass by here."""
        from compressai.models import vbr

        found = []

        class Encoder(vbr.BufferedRansEncoder):
            def encode_with_indexes(self, symbols: list, *args) -> None:
                found.extend(symbols)
                super().encode_with_indexes(symbols, *args)

        with mock.patch.object(vbr, "BufferedRansEncoder", Encoder):
            answer = self.encode()
        return answer | {"nonzero": np.count_nonzero(found) / len(found)}


def work() -> None:
    """Answers questions on stdin until it ends. What libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker()
    for line in sys.stdin:
        question = json.loads(line)
        answer = getattr(worker, question.pop("do"))(**question)
        print(json.dumps(answer), file=answers, flush=True)


# both


def versions(*packages: str) -> str:
    found = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    return ", ".join([*found, f"Python {platform.python_version()}"])


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def busy_seconds() -> float:
    """CPU seconds that all processes have used since the machine started; 0 if not on Linux."""
    try:
        used = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    except OSError:
        return 0.0
    user, nice, system = map(int, used[:3])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")


def own_seconds(pid: int) -> float:
    """CPU seconds of this process and of the worker; 0 if not on Linux."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return time.process_time() + sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def in_turns(ours: Ours, peer: Peer, rounds: int) -> tuple[dict, dict, dict]:
    """Seconds by direction, of both sides; ours by stage."""
    mine, theirs, stages = (defaultdict(list) for _ in range(3))
    data = None
    for turn in range(rounds + 1):  # the first warms up
        for direction in AIMS:
            time.sleep(CALM)
            seconds = defaultdict(float)
            with stages_timed(ours.codec, seconds):
                if direction == "encode":
                    took, data = timed(ours.encode)
                else:
                    took, _ = timed(ours.decode, data)
            seconds["rest"] = took - sum(seconds.values())
            time.sleep(CALM)
            answer = peer.ask(do=direction)
            if turn:
                mine[direction].append(took)
                stages[direction].append(seconds)
                theirs[direction].append(answer["seconds"])
    return mine, theirs, stages


def print_sizes(ours: Ours, peer: Peer, pixels: int) -> None:
    """Of both sides' streams, and how many symbols aren't zero."""
    from jvrc.coding import container

    data = ours.encode()
    stream = container.unpack(data)
    y, z = (len(s.words) + len(s.escapes) for s in (stream.y, stream.z))
    nonzero = np.mean(ours.latents(data).y != 0)
    counted = peer.ask(do="count")
    rows = {"jvrc": (y, z, nonzero), "CompressAI": tuple(counted[k] for k in ("y", "z", "nonzero"))}
    for name, (y, z, share) in rows.items():
        bpp = 8 * (y + z) / pixels
        print(f"{name:12} y {y:7,} z {z:6,} bytes, {bpp:.2f} bpp, {share:6.1%} of y not zero")


def print_table(mine: dict, theirs: dict, stages: dict) -> None:
    median = statistics.median
    print(f"\n{'median s':12}{'jvrc':>9}{'CompressAI':>12}{'ratio':>8}{'aim':>6}")
    for direction, aim in AIMS.items():
        a, b = median(mine[direction]), median(theirs[direction])
        print(f"{direction:12}{a:9.3f}{b:12.3f}{b / a:7.1f}x{aim:5}x")
    for name, found in (("jvrc", mine), ("CompressAI", theirs)):
        ranges = (f"{d} {min(t):.3f} ... {max(t):.3f}" for d, t in found.items())
        print(f"{name + ', range':20}{', '.join(ranges)}")
    for direction, found in stages.items():
        parts = (f"{stage} {1e3 * median(f[stage] for f in found):.0f}" for stage in found[0])
        print(f"jvrc's {direction}, milliseconds: {', '.join(parts)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=Path)
    parser.add_argument("--peer", required=True, metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--n", type=int, default=192)
    parser.add_argument("--m", type=int, default=320)
    parser.add_argument("--qstep", type=float, default=2.0)
    parser.add_argument("--threads", type=int, help="of each side; Linux only (default: all cores)")
    parser.add_argument("--no-keep-memory", action="store_true")
    args = parser.parse_args()
    if args.threads:  # before JAX starts its threads, one for each core that it may use
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    able = hasattr(os, "sched_getaffinity")
    threads = len(os.sched_getaffinity(0)) if able else os.cpu_count()
    kept = False
    if not args.no_keep_memory:
        from jvrc.memory import keep_freed_memory

        kept = keep_freed_memory()
    img = read(args.picture)
    with Peer(args.peer, kept) as peer:
        options = {"n": args.n, "m": args.m, "qstep": args.qstep}
        loaded = peer.ask(do="load", path=str(args.picture.resolve()), threads=threads, **options)
        ours = Ours(img, **options)
        height, width = img.shape[:2]
        print(f"{args.picture.name}, {width}x{height}; N={args.n}, M={args.m}, step {args.qstep:g}")
        print(f"{processor()}, {os.cpu_count()} cores; threads: {threads}, {loaded['threads']}")
        print(f"freed memory kept: {'yes' if kept else 'no'}, on both sides")
        print(f"{'jvrc':12} {ours.versions}\n{'CompressAI':12} {loaded['versions']}")
        load, begin, pid = os.getloadavg()[0], time.perf_counter(), peer.process.pid
        others = own_seconds(pid) - busy_seconds()
        mine, theirs, stages = in_turns(ours, peer, args.rounds)
        others = (others + busy_seconds() - own_seconds(pid)) / (time.perf_counter() - begin)
        print(f"load average before the turns {load:.1f}; others used {others:.2f} cores meanwhile")
        print_sizes(ours, peer, height * width)
    print_table(mine, theirs, stages)


if __name__ == "__main__":
    work() if sys.argv[1:] == ["--worker"] else main()
