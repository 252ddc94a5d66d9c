"""Shows why the hyper-decoder computes on integers: one file, two ways to compute, two pictures.

    python tests/benchmarks/show_need.py PICTURE -o FOLDER [--qstep 2] [--python OTHER/bin/python]

Compresses the picture twice in this process: with the float hyper-decoder that others use, and with
ours. Another process decodes both: with --python in an environment with another version of JAX,
else here, but the float network in double precision, which stands for any other device. Writes
float.png, integers.png and both.webp, and prints how many scale indices differed and what became of
the pictures. The float one is decoded without the checks that would have refused it, to show what a
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
from bench_integer import float_entropy_parameters, float_path
from PIL import Image

import jvrc
from jvrc.codec import image as codec
from jvrc.coding import container
from jvrc.evaluation.metrics import psnr
from jvrc.io.images import read_image

sys.path.insert(0, str(Path(__file__).parents[1]))
import reference_decoder

MODEL = "mbt2018-mean"


def unchecked(model: jvrc.FrozenModel, data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """(picture, scale indices) by the float path, whatever the y stream turns out to hold."""
    stream = container.unpack(data)
    code = stream.qstep_code
    z, by = codec._decode_z(model, stream)
    index, mu = float_entropy_parameters(model, z, code)
    tables, flat = model.y_tables, codec._tables_of_y(model, index, by).ravel()
    rows = np.split(tables.freq.astype(int), tables.start[1:-1])
    symbols = reference_decoder.decode_range(
        stream.y.words, rows, flat, stream.y.lanes, check=False
    )
    y = (symbols + tables.low[flat]).astype(np.int32)
    escaped = np.flatnonzero(symbols == np.array([len(row) - 1 for row in rows])[flat])
    values = reference_decoder.read_escapes(stream.y.escapes)[: len(escaped)]
    y[escaped] = 0
    y[escaped[: len(values)]] = values
    picture = codec._synthesise(model, codec.Latents(z, y.reshape(index.shape), index, mu), code)
    return picture[: stream.height, : stream.width], index


def in_double(model: jvrc.FrozenModel) -> jvrc.FrozenModel:
    """The model with float64 weights in h_s."""
    wide = jax.tree.map(np.float64, model.params["h_s"])
    return dataclasses.replace(model, params=model.params | {"h_s": wide})


def elsewhere(folder: Path, double: bool) -> None:
    """In the other process: decodes what the first one wrote."""
    model = jvrc.load(MODEL)
    with jax.enable_x64(double):
        other = in_double(model) if double else model
        picture, index = unchecked(other, (folder / "float.jvrc").read_bytes())
    Image.fromarray(picture).save(folder / "float.png")
    np.save(folder / "index.npy", index)
    ours = jvrc.decompress(model, (folder / "integers.jvrc").read_bytes())
    Image.fromarray(ours).save(folder / "integers.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder")
    parser.add_argument("--qstep", type=float, default=2.0)
    parser.add_argument("--python", help="interpreter of another environment, to decode there")
    parser.add_argument("--elsewhere", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.elsewhere:
        elsewhere(args.output, double=args.python is None)
        return
    args.output.mkdir(parents=True, exist_ok=True)
    model, img = jvrc.load(MODEL), read_image(args.picture)
    data = jvrc.compress(model, img, args.qstep)
    (args.output / "integers.jvrc").write_bytes(data)
    with float_path(model):
        float_data = jvrc.compress(model, img, args.qstep)
        (args.output / "float.jvrc").write_bytes(float_data)
        index = codec.decode_latents(model, float_data).index
    command = [args.python or sys.executable, __file__, args.picture, "-o", args.output]
    command += ["--elsewhere", *(["--python", args.python] if args.python else [])]
    subprocess.run(command, check=True, env=os.environ | {"JAX_PLATFORMS": "cpu"})

    where = f"with {args.python}" if args.python else "in double precision"
    different = np.load(args.output / "index.npy") != index
    pictures = [np.asarray(Image.open(args.output / f"{n}.png")) for n in ("float", "integers")]
    away = np.abs(jvrc.decompress(model, data) - pictures[1].astype(int)).max()
    print(f"{args.picture.name}, step {args.qstep:g}, JAX {jax.__version__}, decoded {where}")
    print(f"float: {np.count_nonzero(different)} of {different.size} scale indices differ")
    print(f"float: {psnr(img, pictures[0]):.2f} dB, integers: {psnr(img, pictures[1]):.2f} dB")
    print(f"integers: pixels differ by {away} at most")
    gap = np.full((img.shape[0], 8, 3), 255, np.uint8)
    both = np.concatenate([pictures[0], gap, pictures[1]], axis=1)
    Image.fromarray(both).save(args.output / "both.webp", quality=80)


if __name__ == "__main__":
    main()
