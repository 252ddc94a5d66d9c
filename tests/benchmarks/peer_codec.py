"""Whole pictures, jvrc beside CompressAI: for bench_peers.py and bench_mbt2018.py.

Random latents lie near zero, and then nothing is coded. So the last layer of g_a is scaled for the
picture: channel c of y has mean 0 and standard deviation sigma_c, on both sides; and the entropy
model predicts about sigma_c. The share of symbols that aren't zero is then like a trained model's.
"""

import argparse
import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import numpy as np
from peer_turns import Contest, Peer
from peer_worker import Took, gain_and_shift, read, sigmas, timed

# Functions of jvrc.codec, and of its module `wavefront`, by stage.
STAGES = {
    "_g_a": "g_a",
    "_h_a": "h_a",
    "_h_s": "h_s",
    "_psi": "h_s",
    "wavefront.encode": "wavefronts",
    "wavefront.decode": "wavefronts",
    "_encode_stream": "range coder",
    "_decode_stream": "range coder",
    "_g_s": "g_s",
}


def random_params(config: Any, img: np.ndarray) -> dict:
    import jax

    from jvrc.model import modules, transforms

    params = modules.init_params(jax.random.key(0), config)
    rows, columns = (size // 64 * 64 for size in img.shape[:2])
    x = img[None, :rows, :columns].astype(np.float32) / 255
    y = jax.jit(transforms.g_a, static_argnums=0)(config, params["g_a"], x)
    gain, shift = gain_and_shift(np.asarray(y).reshape(-1, config.M))
    last = params["g_a"]["conv3"]
    last["kernel"], last["bias"] = last["kernel"] * gain, last["bias"] * gain + shift
    # h_s gives little but its bias, log(sigma) and mu = 0; behind a context the entropy parameters
    # begin as the identity of what h_s and the context say of log(sigma)
    params["h_s"]["conv2"]["kernel"] *= 0.1
    last = params["entropy_parameters" if config.has_context else "h_s"]["conv2"]
    last["bias"] = last["bias"].at[: config.M].add(np.log(sigmas(config.M)))
    return params


def write_model(path: Path, model: str, img: np.ndarray, n: int, m: int) -> None:
    """A frozen model with random weights."""
    from jvrc.export import freezing
    from jvrc.frozen.file import save_model
    from jvrc.model.config import Config

    config = Config(model, N=n, M=m)
    save_model(freezing.freeze(config, random_params(config, img), qstep_range=(1.0, 16.0)), path)


class Pictures:
    """One picture, coded by both sides."""

    def __init__(self, args: argparse.Namespace, model: str, file: Path, peer: Peer) -> None:
        """file: the weights that `write_model` wrote."""
        import jvrc

        self.peer, self.qstep = peer, args.qstep
        self.params, self.img = jvrc.load(file), read(args.picture)
        sizes = {"n": args.n, "m": args.m, "qstep": args.qstep}
        peer.ask("Codec.load", model=model, path=str(args.picture.resolve()), **sizes)
        self.stages = {"encode": [], "decode": []}
        self.data = self._encode()
        peer.ask("Codec.encode")
        height, width = self.img.shape[:2]
        print(f"\n{args.picture.name}, {width}x{height}; {model}, N={args.n}, M={args.m}", end="")
        print(f", step {args.qstep:g}; random weights")
        self._print_sizes()

    def contests(self, aims: dict[str, float]) -> list[Contest]:
        """aims: times as fast, by direction, of those asked for."""

        def ours(direction: str) -> Took:
            call = self._encode if direction == "encode" else self._decode
            seconds = defaultdict(float)
            with stages_timed(seconds):
                took, _ = timed(call)
            seconds["rest"] = took.wall - sum(seconds.values())
            self.stages[direction].append(seconds)
            return took

        return [
            Contest(
                direction,
                lambda d=direction: ours(d),
                {"CompressAI": lambda d=direction: self.peer.took(f"Codec.{d}")},
                aim,
            )
            for direction, aim in aims.items()
        ]

    def print_stages(self) -> None:
        """Medians of jvrc's stages, without the first turn."""
        for direction, found in self.stages.items():
            if not found:
                continue
            medians = {stage: median(f[stage] for f in found[1:]) for stage in found[0]}
            parts = ", ".join(f"{stage} {1e3 * value:.0f}" for stage, value in medians.items())
            print(f"jvrc's {direction}, milliseconds: {parts}")

    def _encode(self) -> bytes:
        import jvrc

        return jvrc.compress(self.params, self.img, self.qstep)

    def _decode(self) -> np.ndarray:
        import jvrc

        return jvrc.decompress(self.params, self.data)

    def _print_sizes(self) -> None:
        """Of both sides' streams, and how many symbols aren't zero."""
        from jvrc.codec import image as codec
        from jvrc.coding import container

        stream = container.unpack(self.data)
        y, z = (len(s.words) + len(s.escapes) for s in (stream.y, stream.z))
        q = codec.decode_latents(self.params, self.data).y
        rows = {"jvrc": {"y": y, "z": z, "symbols": q.size, "nonzero": np.count_nonzero(q)}}
        rows["CompressAI"] = self.peer.ask("Codec.count")
        for name, row in rows.items():
            y, z, share = row["y"], row["z"], row["nonzero"] / row["symbols"]
            bpp = 8 * (y + z) / (self.img.size / 3)
            print(f"{name:12}y {y:,} z {z:,} bytes, {bpp:.2f} bpp, {share:.1%} of y not zero")


@contextlib.contextmanager
def stages_timed(seconds: dict[str, float]) -> Iterator[None]:
    """Adds the seconds of each stage of jvrc.codec to `seconds`; each waits for its results."""
    import jax

    from jvrc.codec import image as codec

    def wrapped(function: Callable, stage: str) -> Callable:
        def run(*args, **options):
            took, result = timed(lambda: jax.block_until_ready(function(*args, **options)))
            seconds[stage] += took.wall
            return result

        return run

    with contextlib.ExitStack() as stack:
        for name, stage in STAGES.items():
            *module, attribute = name.split(".")
            owner = getattr(codec, module[0]) if module else codec
            new = wrapped(getattr(owner, attribute), stage)
            stack.enter_context(mock.patch.object(owner, attribute, new))
        yield
