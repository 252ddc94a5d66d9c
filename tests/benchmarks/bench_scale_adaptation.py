"""What scale adaptation (jvrc.coding.scale_adaptation) saves: bytes with and without it.

    python tests/benchmarks/bench_scale_adaptation.py FOLDER [--model mbt2018-mean]

The restored image is the same. Means over the images, and the most that one of them saves.
"""

import argparse
from pathlib import Path
from unittest import mock

import numpy as np

import jvrc
from jvrc.codec.image.encoder import encode_image
from jvrc.coding import packing, scale_adaptation
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
    with mock.patch.object(scale_adaptation, "choose", no_shift):
        plain = encode_image(model, img, qstep_code)
    return len(jvrc.compress(model, img, qstep)), len(packing.pack(plain))


def no_shift(y: np.ndarray, *_: object) -> np.ndarray:
    return np.zeros(y.shape[2], np.int32)


if __name__ == "__main__":
    main()
