"""What scale adaptation (jvrc.coding.scale_adaptation) saves: bytes with and without it.

    python tests/benchmarks/bench_scale_adaptation.py FOLDER [--model mbt2018-mean]

The picture restored is the same. Means over the pictures, and the most that one of them saves.
"""

import argparse
from pathlib import Path
from unittest import mock

import numpy as np

import jvrc
from jvrc.coding import scale_adaptation
from jvrc.io.images import list_images, read_image

QSTEPS = (1.0, 2.0, 4.0, 8.0, 16.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="mbt2018-mean")
    args = parser.parse_args()
    model, paths = jvrc.load(args.model), list_images(args.folder)
    sizes = np.array([[with_and_without(model, p, q) for q in QSTEPS] for p in paths], float)
    print("| step | bytes without | with | less | most of one picture | pictures shifted |")
    print("|---|---|---|---|---|---|")
    for i, qstep in enumerate(QSTEPS):
        after, before = sizes[:, i].T
        less, most = 1 - after.sum() / before.sum(), np.max(1 - after / before)
        used = np.count_nonzero(after != before)
        row = (f"{qstep:g}", f"{before.mean():.0f}", f"{after.mean():.0f}", f"{less:.2%}")
        print("|", " | ".join([*row, f"{most:.1%}", f"{used} of {len(paths)}"]), "|", flush=True)


def with_and_without(model: jvrc.FrozenModel, path: Path, qstep: float) -> tuple[int, int]:
    img = read_image(path)
    after = len(jvrc.compress(model, img, qstep))
    with mock.patch.object(
        scale_adaptation, "choose", lambda y, *_: np.zeros(y.shape[2], np.int32)
    ):
        return after, len(jvrc.compress(model, img, qstep))


if __name__ == "__main__":
    main()
