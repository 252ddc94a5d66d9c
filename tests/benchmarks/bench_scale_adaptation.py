"""What scale adaptation (jvrc.coding.scale_adaptation) saves: bytes with and without it.

    python tests/benchmarks/bench_scale_adaptation.py FOLDER [--model mbt2018-mean]

The restored image is the same. Means over the images, and the most that one of them saves.
"""

import argparse
from pathlib import Path

import numpy as np

import jvrc
from jvrc.codec.image import quantise_image
from jvrc.codec.streams import encode_z
from jvrc.coding.container import Container, pack
from jvrc.io.images import list_images, read_image
from jvrc.qstep import qstep_code_of

QSTEPS = (1.0, 2.0, 4.0, 8.0, 16.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="mbt2018-mean")
    args = parser.parse_args()
    model, paths = jvrc.load(args.model), list_images(args.folder)
    sizes = np.array([[with_and_without(model, p, q) for q in QSTEPS] for p in paths], float)
    print("| step | bytes without | with | less | most of one image | images shifted |")
    print("|---|---|---|---|---|---|")
    for i, qstep in enumerate(QSTEPS):
        after, before = sizes[:, i].T
        less, most = 1 - after.sum() / before.sum(), np.max(1 - after / before)
        used = np.count_nonzero(after != before)
        row = (f"{qstep:g}", f"{before.mean():.0f}", f"{after.mean():.0f}", f"{less:.2%}")
        print("|", " | ".join([*row, f"{most:.1%}", f"{used} of {len(paths)}"]), "|", flush=True)


def with_and_without(model: jvrc.FrozenModel, path: Path, qstep: float) -> tuple[int, int]:
    img, qstep_code = read_image(path), qstep_code_of(qstep)
    z_q, symbols, coder = quantise_image(model, img, qstep_code)
    none = np.zeros(model.config.M, np.int32)
    plain = Container(
        model.model_id,
        *img.shape[:2],
        qstep_code,
        False,
        encode_z(model, z_q, none, qstep_code),
        coder.encode(symbols, none),
    )
    return len(jvrc.compress(model, img, qstep)), len(pack(plain))


if __name__ == "__main__":
    main()
