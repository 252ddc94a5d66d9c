"""Whole images, jvrc beside CompressAI: for bench_peers, bench_mbt2018 and bench_jvrc2026.

The latents of random weights are near zero, and nothing would be coded. So the last layer of g_a is
scaled for the image: channel c of y has mean 0 and standard deviation sigma_c, on both sides, and
the entropy model predicts about sigma_c. As many symbols are nonzero then as with a trained model.
"""

import argparse
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from peer_turns import Contest, Peer
from peer_worker import gain_and_shift, read, sigmas, timed

STAGE_ROUNDS = 4  # the first of which warms up


def random_params(config: Any, img: np.ndarray) -> dict:
    """Return random parameters whose latents of the image have the standard deviations `sigmas`."""
    import jax

    from jvrc.model import architectures, modules

    params = modules.init_params(jax.random.key(0), config)
    rows, columns = (size // 64 * 64 for size in img.shape[:2])
    x = img[None, :rows, :columns].astype(np.float32) / 255
    y = jax.jit(architectures.g_a, static_argnums=0)(config, params, x)
    gain, shift = gain_and_shift(np.asarray(y).reshape(-1, config.M))
    last = params["g_a"]["down" if "down" in params["g_a"] else "conv3"]
    last["kernel"], last["bias"] = last["kernel"] * gain, last["bias"] * gain + shift
    # Let h_s give little but its bias, log(sigma) and mu = 0. With a context model, the entropy
    # parameters network gives them; it is initialised to pass on log(sigma).
    params["h_s"]["conv2"]["kernel"] *= 0.1
    last = params["entropy_parameters" if config.has_context else "h_s"]["conv2"]
    last["bias"] = last["bias"].at[: config.M].add(np.log(sigmas(config.M)))
    return params


def write_model(path: Path, model: str, img: np.ndarray, n: int, m: int) -> None:
    """Write the weights file of a model with random weights."""
    from jvrc.export import freezing
    from jvrc.frozen.file import save_model
    from jvrc.model.config import config_of

    config = config_of(model, N=n, M=m) if model != "jvrc2026" else config_of(model, M=m)
    save_model(freezing.freeze(config, random_params(config, img), qstep_range=(1.0, 16.0)), path)


class Images:
    """One image, coded by both sides."""

    def __init__(self, args: argparse.Namespace, model: str, file: str | Path, peer: Peer) -> None:
        """model: that of CompressAI, with random weights. file: our weights."""
        import jvrc

        self.peer, self.qstep = peer, args.qstep
        self.model, self.img = jvrc.load(file), read(args.image)
        sizes = {"n": args.n, "m": args.m, "qstep": args.qstep}
        peer.ask("Codec.load", model=model, path=str(args.image.resolve()), **sizes)
        self.data = self._encode()
        peer.ask("Codec.encode")
        height, width = self.img.shape[:2]
        print(f"\n{args.image.name}, {width}x{height}; {model}, N={args.n}, M={args.m}", end="")
        print(f", qstep {args.qstep:g}; jvrc: {self.model.config}")
        self._print_sizes()

    def contests(self, aims: dict[str, float]) -> list[Contest]:
        """aims: times as fast, by direction, of those asked for."""

        calls = {"encode": self._encode, "decode": self._decode}
        return [
            Contest(
                direction,
                lambda d=direction: timed(calls[d])[0],
                {"CompressAI": lambda d=direction: self.peer.took(f"Codec.{d}")},
                aim,
            )
            for direction, aim in aims.items()
        ]

    def print_stages(self) -> None:
        """Print the medians of the seconds that jvrc takes for each stage."""
        import stages

        calls = {
            "encode": lambda measure: stages.compress(self.model, self.img, self.qstep, measure),
            "decode": lambda measure: stages.decompress(self.model, self.data, measure),
        }
        for direction, call in calls.items():
            found = [stages.Seconds() for _ in range(STAGE_ROUNDS)]
            for seconds in found:
                call(seconds.measure)
            medians = {stage: median(f[stage][0] for f in found[1:]) for stage in found[0]}
            parts = ", ".join(f"{stage} {1e3 * value:.0f}" for stage, value in medians.items())
            print(f"jvrc's {direction}, milliseconds: {parts}")

    def _encode(self) -> bytes:
        import jvrc

        return jvrc.compress(self.model, self.img, self.qstep)

    def _decode(self) -> np.ndarray:
        import jvrc

        return jvrc.decompress(self.model, self.data)

    def _print_sizes(self) -> None:
        """Print the sizes of both sides' streams and the share of nonzero symbols."""
        from jvrc.codec.image.decoder import decode_symbols
        from jvrc.coding import packing

        tiles = packing.unpack(self.data).tiles
        y, z = (
            sum(len(s.words) + len(s.escapes) for s in streams)
            for streams in ([t.y for t in tiles], [t.z for t in tiles])
        )
        q = decode_symbols(self.model, self.data)[1].y
        rows = {"jvrc": {"y": y, "z": z, "symbols": q.size, "nonzero": np.count_nonzero(q)}}
        rows["CompressAI"] = self.peer.ask("Codec.count")
        for name, row in rows.items():
            y, z, share = row["y"], row["z"], row["nonzero"] / row["symbols"]
            bpp = 8 * (y + z) / (self.img.size / 3)
            print(f"{name:12}y {y:,} z {z:,} bytes, {bpp:.2f} bpp, {share:.1%} of y not zero")
