"""The other side of bench_peers.py and bench_mbt2018.py: CompressAI and constriction.

It runs in an environment of its own, with torch, compressai (1.2.8 was tried) and constriction:

    python -m venv /tmp/peer && /tmp/peer/bin/pip install torch numpy pillow compressai constriction

`peer_turns.Peer` starts it there, and it answers JSON lines with JSON lines; a question names a
class and a method below. As `peer_worker.py --start …` it is the minimal program that compresses
one image and ends. jvrc and JAX are not imported here.
"""

import importlib.machinery
import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from PIL import Image

SIGMAS = (0.02, 3.0)  # of y's channels, the first and the last
# By jvrc's name: the class in compressai.models.vbr, and the part whose last layer gives sigma, mu.
MODELS = {
    "mbt2018-mean": ("MeanScaleHyperpriorVbr", "h_s"),
    "mbt2018": ("JointAutoregressiveHierarchicalPriorsVbr", "entropy_parameters"),
}
LAMBDA, RATES, CLIP = 0.0130, (1e-4, 1e-3), 1.0  # the defaults of CompressAI's examples/train.py


def sigmas(channels: int) -> np.ndarray:
    return np.geomspace(*SIGMAS, channels).astype(np.float32)


def gain_and_shift(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return gain and shift that give the channels of y [samples,M] mean 0 and the `sigmas`."""
    gain = sigmas(y.shape[1]) / y.std(0)
    return gain, -y.mean(0) * gain


def read(path: str | Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


class Took(NamedTuple):
    """Seconds."""

    wall: float
    cpu: float  # of all threads, and of processes that were started and have ended


def timed(call: Callable, *args) -> tuple[Took, Any]:
    wall, cpu = time.perf_counter(), _cpu_seconds()
    result = call(*args)
    return Took(time.perf_counter() - wall, _cpu_seconds() - cpu), result


def _cpu_seconds() -> float:
    return time.process_time() + sum(os.times()[2:4])


def versions(*packages: str) -> str:
    found = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    return ", ".join([*found, f"Python {platform.python_version()}"])


class StandIns:
    """Imports mocks in the place of missing packages that the functions called here do not use.

    It is the last in sys.meta_path, so it is asked only for what nothing else finds. jvrc is one of
    them: bench_range_coder.py imports it for its other half.
    """

    NAMES = ("jvrc", "pandas", "pyntcloud", "requests", "torch_geometric", "torchvision")

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


def new_net(model: str, n: int, m: int) -> Any:
    import torch
    from compressai.models import vbr

    torch.manual_seed(0)
    return getattr(vbr, MODELS[model][0])(N=n, M=m)


def padded(img: np.ndarray) -> Any:
    """[1,3,H,W] in [0,1], H and W multiples of 64: CompressAI's users pad images themselves."""
    import torch

    x = torch.from_numpy(img.copy()).permute(2, 0, 1)[None].float() / 255
    height, width = x.shape[2:]
    return torch.nn.functional.pad(x, (0, -width % 64, 0, -height % 64), mode="replicate")


class Machine:
    def begin(self, threads: int) -> dict:
        import torch

        torch.set_num_threads(threads)
        found = versions("compressai", "torch", "constriction", "numpy")
        return {"versions": found, "threads": torch.get_num_threads()}

    def product(self, size: int) -> dict:
        """A product of two matrices, float32."""
        import torch

        a, b = torch.randn(2, size, size)
        return {"took": timed(torch.matmul, a, b)[0]}


class Codec:
    """A model with random weights, scaled for one image."""

    def load(self, model: str, path: str, n: int, m: int, qstep: float) -> dict:
        import torch

        self.x, self.net = padded(read(path)), new_net(model, n, m).eval()
        self.options = {"stage": 2, "inputscale": torch.tensor(1 / qstep)}
        with torch.no_grad():
            y = self.net.g_a(self.x)[0].flatten(1).T.numpy()
            gain, shift = map(torch.from_numpy, gain_and_shift(y))
            last = self.net.g_a[-1]
            last.weight *= gain[:, None, None, None]
            last.bias.copy_(last.bias * gain + shift)
            last = getattr(self.net, MODELS[model][1])[-1]
            last.weight *= 0.1
            last.bias.copy_(torch.cat([torch.from_numpy(sigmas(m)), torch.zeros(m)]))
        self.net.update()
        return {}

    def encode(self) -> dict:
        import torch

        with torch.no_grad():
            took, self.coded = timed(lambda: self.net.compress(self.x, **self.options))
        y, z = (len(strings[0]) for strings in self.coded["strings"])
        return {"took": took, "y": y, "z": z}

    def decode(self) -> dict:
        import torch

        args = self.coded["strings"], self.coded["shape"]
        with torch.no_grad():
            took, _ = timed(lambda: self.net.decompress(*args, **self.options))
        return {"took": took}

    def count(self) -> dict:
        """Encode, and count the symbols of y and those that are not zero."""
        from compressai.models import vbr

        found, coder = [], self.net.gaussian_conditional.entropy_coder
        encode = coder.encode_with_indexes

        def spy(symbols: list, *args) -> bytes:
            found.extend(symbols)
            return encode(symbols, *args)

        class Encoder(vbr.BufferedRansEncoder):  # behind a context
            def encode_with_indexes(self, symbols: list, *args) -> None:
                found.extend(symbols)
                super().encode_with_indexes(symbols, *args)

        with (
            mock.patch.object(coder, "encode_with_indexes", spy),
            mock.patch.object(vbr, "BufferedRansEncoder", Encoder),
        ):
            answer = self.encode()
        return answer | {"symbols": len(found), "nonzero": int(np.count_nonzero(found))}


class Training:
    """One step as in CompressAI's examples/train.py, on one batch."""

    def load(self, path: str, n: int, m: int) -> dict:
        """path: crops, uint8 [B,H,W,3], as a NumPy file."""
        import torch
        from compressai.losses import RateDistortionLoss

        self.x = torch.from_numpy(np.load(path)).permute(0, 3, 1, 2).contiguous().float() / 255
        self.net, self.loss = new_net("mbt2018-mean", n, m).train(), RateDistortionLoss(LAMBDA)
        named = dict(self.net.named_parameters())
        tails = {name for name in named if name.endswith(".quantiles")}
        groups = [named[k] for k in named.keys() - tails], [named[k] for k in tails]
        self.main, self.aux = (torch.optim.Adam(g, r) for g, r in zip(groups, RATES, strict=True))
        return {}

    def step(self, stage: int) -> dict:
        """stage: 1, mbt2018-mean as published; 2, the same with steps and offsets (vbr)."""
        return {"took": timed(self._step, stage)[0]}

    def _step(self, stage: int) -> None:
        import torch

        self.main.zero_grad()
        self.aux.zero_grad()
        self.loss(self.net(self.x, stage=stage, s=3), self.x)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), CLIP)
        self.main.step()
        self.net.aux_loss().backward()
        self.aux.step()


class Coders:
    """Range coders on the symbols of a file: (encoder, decoder) by name."""

    def load(self, path: str) -> dict:
        """path: a NumPy file with symbols and index, int32 [n], and CDF tables: freq and start."""
        import bench_range_coder

        with np.load(path) as found:
            self.symbols, index = found["symbols"], found["index"]
            tables = SimpleNamespace(freq=found["freq"], start=found["start"])
        given = self.symbols, index, tables
        self.coders = {
            "constriction, tables": bench_range_coder.constriction_tables(*given),
            "constriction, Gaussians": bench_range_coder.constriction_gaussians(*given),
            "CompressAI": compressai_lists(*given),
        }
        self.coded = {}
        return {"names": list(self.coders)}

    def encode(self, name: str) -> dict:
        took, self.coded[name] = timed(self.coders[name][0])
        return {"took": took, "bytes": memoryview(self.coded[name]).nbytes}

    def decode(self, name: str) -> dict:
        took, decoded = timed(self.coders[name][1], self.coded[name])
        if not np.array_equal(decoded, self.symbols):
            sys.exit(f"{name}: decoded symbols differ")
        return {"took": took}


def compressai_lists(symbols: np.ndarray, index: np.ndarray, tables: Any) -> tuple:
    """CompressAI's C++ coder on the lists that it wants, which are made before.

    Its tables end in an escape code; that takes 1 of 65,536 from the middle symbol.
    """
    from compressai import ans

    cdfs = []
    for start, end in zip(tables.start[:-1], tables.start[1:], strict=True):
        cdf = np.concatenate([[0], np.cumsum(tables.freq[start:end]), [2**16]])
        cdf[(end - start + 1) // 2 : -1] -= 1
        cdfs.append(cdf.tolist())
    lists = index.tolist(), cdfs, [len(cdf) for cdf in cdfs], [0] * len(cdfs)
    values = symbols.tolist()
    return (
        lambda: ans.RansEncoder().encode_with_indexes(values, *lists),
        lambda data: ans.RansDecoder().decode_with_indexes(data, *lists),
    )


def start(model: str, image: str, n: str, m: str, qstep: str, output: str) -> None:
    """Compress one image with a new net; the whole of a process."""
    import torch

    x, net = padded(read(image)), new_net(model, int(n), int(m)).eval()
    net.update()
    with torch.no_grad():
        coded = net.compress(x, stage=2, inputscale=torch.tensor(1 / float(qstep)))
    Path(output).write_bytes(b"".join(strings[0] for strings in coded["strings"]))


def work() -> None:
    """Answer the questions on stdin until it ends. What libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    parts = {part.__name__: part() for part in (Machine, Codec, Training, Coders)}
    for line in sys.stdin:
        question = json.loads(line)
        part, method = question.pop("do").split(".")
        answer = getattr(parts[part], method)(**question)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    sys.meta_path.append(StandIns())
    start(*sys.argv[2:]) if sys.argv[1:2] == ["--start"] else work()
