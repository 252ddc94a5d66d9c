"""What each effort saves by rate, and its time: a table in Markdown.

    python tests/benchmarks/bench_effort.py FOLDER [--model jvrc2026] [--size 256] [--limit 6]

One crop from the centre of each of some images. Two measures, both means over the crops, and the
processor's time, which other programs hardly change (two idle cores take half of it):

    PSNR    bytes at equal PSNR: against the crop's own files without effort, at 21 qsteps with
            log(bytes) interpolated over PSNR; "-" where they don't reach it
    loss    what the loss bits + lambda * squared error falls by, as a share of the bits; to first
            order the bits saved at equal PSNR, and defined at any rate
"""

import argparse
import time
from pathlib import Path

import numpy as np

import jvrc
from jvrc.io.images import list_images, read_image
from jvrc.qstep import rd_lambda

GRID = 0.5 * 2.0 ** np.arange(0, 5.25, 0.25)


def main() -> None:
    args = arguments()
    model = jvrc.load(args.model)
    found = (centre(read_image(path), args.size) for path in list_images(args.folder))
    crops = [crop for crop in found if crop is not None]
    crops = crops[:: max(1, len(crops) // args.limit)][: args.limit]
    curves = [np.array([coded(model, img, q, 0)[:2] for q in GRID]) for img in crops]
    coded(model, crops[0], 4.0, 1)  # compiles
    efforts = "".join(f" effort {e}: PSNR | loss | CPU s |" for e in args.efforts)
    print(f"| qstep | bpp | dB |{efforts}\n|{'---|' * (3 + 3 * len(args.efforts))}", flush=True)
    for qstep in args.qsteps:
        plain = np.array([coded(model, img, qstep, 0) for img in crops])
        cells = [f"{qstep:g}", f"{plain[:, 0].mean():.2f}", f"{plain[:, 1].mean():.1f}"]
        for effort in args.efforts:
            found = np.array([coded(model, img, qstep, effort) for img in crops])
            cells += columns(plain, found, curves, qstep)
        print("| " + " | ".join(cells) + " |", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="jvrc2026")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--limit", type=int, default=6)
    parser.add_argument("--efforts", type=numbers(int), default=(1, 2, 3))
    parser.add_argument("--qsteps", type=numbers(float), default=(1, 1.5, 3, 6, 12))
    return parser.parse_args()


def numbers(kind: type):
    return lambda text: tuple(kind(part) for part in text.split(","))


def centre(img: np.ndarray, size: int) -> np.ndarray | None:
    top, left = ((side - size) // 2 for side in img.shape[:2])
    return img[top : top + size, left : left + size] if min(top, left) >= 0 else None


def coded(model: jvrc.FrozenModel, img: np.ndarray, qstep: float, effort: int) -> tuple:
    """Return (bpp, PSNR, seconds of processor time to compress)."""
    begin = time.process_time()
    data = jvrc.compress(model, img, qstep, effort=effort)
    seconds = time.process_time() - begin
    mse = np.mean(np.square(jvrc.decompress(model, data).astype(np.float64) - img))
    return 8 * len(data) / (img.size / 3), 10 * np.log10(255**2 / max(mse, 1e-3)), seconds


def columns(plain: np.ndarray, found: np.ndarray, curves: list, qstep: float) -> list[str]:
    """Return the cells of one effort, from rows (bpp, PSNR, seconds) of each crop."""
    ratios = [saved(row, curve) for row, curve in zip(found, curves, strict=True)]
    at_psnr = "-" if None in ratios else f"{100 * np.expm1(np.mean(ratios)):+.1f} %"
    loss = np.mean((loss_of(found, qstep) - loss_of(plain, qstep)) / plain[:, 0])
    return [at_psnr, f"{100 * loss:+.1f} %", f"{found[:, 2].mean():.1f}"]


def loss_of(rows: np.ndarray, qstep: float) -> np.ndarray:
    return rows[:, 0] + rd_lambda(qstep) * 255**2 * 10 ** (-rows[:, 1] / 10)


def saved(row: np.ndarray, curve: np.ndarray) -> float | None:
    """Return log(bytes / bytes without effort at the same PSNR); curve: rows (bpp, PSNR)."""
    psnr, rate = curve[::-1, 1], np.log(curve[::-1, 0])
    if not psnr[0] <= row[1] <= psnr.max():
        return None
    return float(np.log(row[0]) - np.interp(row[1], np.maximum.accumulate(psnr), rate))


if __name__ == "__main__":
    main()
