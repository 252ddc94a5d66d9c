"""Shows why the hyper-decoder computes on integers: one file, two ways to compute, two images.

    python tests/benchmarks/show_need.py IMAGE -o FOLDER [--qstep 2] [--python OTHER/bin/python]

Compresses the image twice in this process: with the float hyper-decoder that others use, and with
ours. Another process decodes both: with --python in an environment with another version of JAX,
else here, but the float network in double precision, which stands for any other device. Writes
float.png, integers.png and both.webp, and prints how many scale indices differed and what became of
the images. The float one is decoded without the checks that would have refused it, to show what a
decoder without them shows.
"""

import argparse
import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
from float_coders import FloatIndependentCoder, float_coder
from PIL import Image

import jvrc
from jvrc.codec.image.decoder import decode_image
from jvrc.codec.image.encoder import encode_image
from jvrc.codec.tiles.streams import decode_z
from jvrc.coding import packing, scale_adaptation
from jvrc.coding.container import Container
from jvrc.evaluation.metrics import psnr
from jvrc.io.images import read_image
from jvrc.qstep import qstep_code_of

sys.path.insert(0, str(Path(__file__).parents[1]))
import reference_decoder

MODEL = "mbt2018-mean"


class UncheckedCoder(FloatIndependentCoder):
    """The float coder, which takes whatever the y stream turns out to hold."""

    def decode(self, stream, index_shift, *, refined=False):
        expected = self.quantise(np.float32(0))  # index and mu alone
        tables = self.model.y_tables
        index = scale_adaptation.apply(expected.index, index_shift, len(tables.low)).ravel()
        rows = np.split(tables.freq.astype(int), tables.start[1:-1])
        symbols = reference_decoder.decode_range(
            stream.words, rows, index, stream.lanes, check=False
        )
        y = (symbols + tables.low[index]).astype(np.int32)
        escaped = np.flatnonzero(symbols == np.array([len(row) - 1 for row in rows])[index])
        values = reference_decoder.read_escapes(stream.escapes)[: len(escaped)]
        y[escaped] = 0
        y[escaped[: len(values)]] = values
        return expected._replace(y=y.reshape(expected.index.shape))


def float_indices(model: jvrc.FrozenModel, coded: Container) -> np.ndarray:
    """The scale indices of a stream of one tile by the float h_s."""
    (tile,), blocks = coded.tiles, coded.grid.blocks
    z_q, _ = decode_z(model, tile, blocks, coded.qstep_code)
    return FloatIndependentCoder(model, z_q, coded.qstep_code).quantise(np.float32(0)).index


def in_double(model: jvrc.FrozenModel) -> jvrc.FrozenModel:
    """The model with float64 weights in h_s."""
    wide = jax.tree.map(np.float64, model.params["h_s"])
    return dataclasses.replace(model, params=model.params | {"h_s": wide})


def elsewhere(folder: Path, double: bool) -> None:
    """In the other process: decodes what the first one wrote."""
    model = jvrc.load(MODEL)
    with jax.enable_x64(double):
        other = in_double(model) if double else model
        coded = packing.unpack((folder / "float.jvrc").read_bytes())
        image = decode_image(other, coded, coder_of=UncheckedCoder)
        index = float_indices(other, coded)
    Image.fromarray(image).save(folder / "float.png")
    np.save(folder / "index.npy", index)
    ours = jvrc.decompress(model, (folder / "integers.jvrc").read_bytes())
    Image.fromarray(ours).save(folder / "integers.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder")
    parser.add_argument("--qstep", type=float, default=2.0)
    parser.add_argument("--python", help="interpreter of another environment, to decode there")
    parser.add_argument("--elsewhere", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.elsewhere:
        elsewhere(args.output, double=args.python is None)
        return
    args.output.mkdir(parents=True, exist_ok=True)
    model, img = jvrc.load(MODEL), read_image(args.image)
    data = jvrc.compress(model, img, args.qstep)
    (args.output / "integers.jvrc").write_bytes(data)
    coded = encode_image(model, img, qstep_code_of(args.qstep), coder_of=float_coder)
    (args.output / "float.jvrc").write_bytes(packing.pack(coded))
    index = float_indices(model, coded)
    command = [args.python or sys.executable, __file__, args.image, "-o", args.output]
    command += ["--elsewhere", *(["--python", args.python] if args.python else [])]
    subprocess.run(command, check=True, env=os.environ | {"JAX_PLATFORMS": "cpu"})

    where = f"with {args.python}" if args.python else "in double precision"
    different = np.load(args.output / "index.npy") != index
    images = [np.asarray(Image.open(args.output / f"{n}.png")) for n in ("float", "integers")]
    away = np.abs(jvrc.decompress(model, data) - images[1].astype(int)).max()
    print(f"{args.image.name}, step {args.qstep:g}, JAX {jax.__version__}, decoded {where}")
    print(f"float: {np.count_nonzero(different)} of {different.size} scale indices differ")
    print(f"float: {psnr(img, images[0]):.2f} dB, integers: {psnr(img, images[1]):.2f} dB")
    print(f"integers: pixels differ by {away} at most")
    gap = np.full((img.shape[0], 8, 3), 255, np.uint8)
    both = np.concatenate([images[0], gap, images[1]], axis=1)
    Image.fromarray(both).save(args.output / "both.webp", quality=80)


if __name__ == "__main__":
    main()
