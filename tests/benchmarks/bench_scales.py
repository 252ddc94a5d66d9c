"""What scale adaptation or refinement saves: bytes with and without it.

    python tests/benchmarks/bench_scales.py FOLDER [--model mbt2018-mean]
    python tests/benchmarks/bench_scales.py FOLDER --refinement

The restored image is the same. Means over the images, and the least and the most that one of them
saves. Refinement (jvrc.integer.scale_refinement) is that of the shipped jvrc2026, on top of
adaptation (jvrc.coding.scale_adaptation).
"""

import argparse
from dataclasses import replace
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
    parser.add_argument("--refinement", action="store_true")
    args = parser.parse_args()
    model = jvrc.load("jvrc2026" if args.refinement else args.model)
    sizes_of = refined_and_not if args.refinement else adapted_and_not
    paths = list_images(args.folder)
    sizes = np.array([[sizes_of(model, read_image(p), q) for q in QSTEPS] for p in paths], float)
    print("| step | bytes without | with | less | least, most of one image | images changed |")
    print("|---|---|---|---|---|---|")
    for i, qstep in enumerate(QSTEPS):
        after, before = sizes[:, i].T
        each = 1 - after / before
        row = (f"{qstep:g}", f"{before.mean():.0f}", f"{after.mean():.0f}")
        less = (f"{1 - after.sum() / before.sum():.2%}", f"{each.min():.1%}, {each.max():.1%}")
        used = f"{np.count_nonzero(each)} of {len(paths)}"
        print("|", " | ".join([*row, *less, used]), "|", flush=True)


def adapted_and_not(model: jvrc.FrozenModel, img: np.ndarray, qstep: float) -> tuple[int, int]:
    with mock.patch.object(scale_adaptation, "choose", no_shift):
        plain = encode_image(model, img, qstep_code_of(qstep))
    return len(jvrc.compress(model, img, qstep)), len(packing.pack(plain))


def refined_and_not(model: jvrc.FrozenModel, img: np.ndarray, qstep: float) -> tuple[int, int]:
    plain = replace(model, refinement=None)
    return len(jvrc.compress(model, img, qstep)), len(jvrc.compress(plain, img, qstep))


def no_shift(y: np.ndarray, *_: object) -> np.ndarray:
    return np.zeros(y.shape[2], np.int32)


if __name__ == "__main__":
    main()
