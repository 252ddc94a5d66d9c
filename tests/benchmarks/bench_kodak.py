"""Rate and distortion on a folder of pictures, real files written, read back and decoded.

    python tests/benchmarks/bench_kodak.py KODAK [--model NAME|FILE] [--curves kodak.json]
        [--plot rd.png]        (needs matplotlib: the extra `eval`)

Prints the mean over the pictures at each step, those of JPEG by Pillow in the same run, and the
BD-rate against JPEG between 0.15 and 1.0 bpp (and against published curves, if given).
"""

import argparse
import io
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

import jvrc
from jvrc import compile_cache
from jvrc.evaluation.metrics import psnr
from jvrc.evaluation.rd import bd_rate, between_rates
from jvrc.images import read_image, write_bytes
from jvrc.training.data import list_images

QSTEPS = (1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24)
QUALITIES = (5, 10, 15, 20, 25, 30, 40, 50, 60, 70, 80, 85, 90, 95)


def point(img: np.ndarray, size: int, restored: np.ndarray) -> tuple[float, float]:
    """(bpp, PSNR in dB)."""
    return 8 * size / (img.shape[0] * img.shape[1]), psnr(img, restored)


def ours(model: jvrc.FrozenModel, img: np.ndarray, qstep: float, folder: Path) -> tuple:
    """(bpp, PSNR, encode seconds, decode seconds), by way of a file."""
    begin = time.perf_counter()
    write_bytes(folder / "x.jvrc", jvrc.compress(model, img, qstep))
    middle = time.perf_counter()
    data = (folder / "x.jvrc").read_bytes()
    restored = jvrc.decompress(model, data)
    return *point(img, len(data), restored), middle - begin, time.perf_counter() - middle


def jpeg(img: np.ndarray, quality: int) -> tuple[float, float]:
    """(bpp, PSNR): 4:2:0, optimised tables."""
    buffer = io.BytesIO()
    Image.fromarray(img).save(buffer, "JPEG", quality=quality, optimize=True)
    return point(img, buffer.tell(), np.asarray(Image.open(buffer)))


def bd_rate_text(anchor: np.ndarray, curve: np.ndarray) -> str:
    """The BD-rate in percent, or a dash where the curves share no PSNR."""
    try:
        return f"{bd_rate(anchor, curve):+7.1f} %"
    except ValueError:
        return "      -  "


def plot(path: Path, curves: dict[str, np.ndarray]) -> None:
    """Rate-distortion curves as a picture; the first one is ours."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    for i, (name, curve) in enumerate(curves.items()):
        style = {"lw": 2.5, "marker": "o", "ms": 4, "color": "crimson"} if i == 0 else {"lw": 1.2}
        axes.plot(*curve[np.argsort(curve[:, 0])].T, label=name, **style)
    axes.set(xlim=(0, 1.5), ylim=(23, 39), xlabel="bits per pixel", ylabel="PSNR (RGB), dB")
    axes.set_title("Kodak, mean of the pictures")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="mbt2018-mean")
    parser.add_argument("--curves", type=Path, help="JSON of published curves")
    parser.add_argument("--plot", type=Path, help="write the curves as a picture")
    args = parser.parse_args()
    compile_cache.enable()
    model = jvrc.load(args.model)
    pictures = [read_image(p) for p in list_images(args.folder)]
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            np.mean([ours(model, img, q, Path(folder)) for img in pictures], axis=0)
            for q in tqdm(QSTEPS)
        ]
    print(f"model {model.model_id}, {len(pictures)} pictures\n\nqstep    bpp    PSNR  enc s  dec s")
    for qstep, (bpp, db, encode, decode) in zip(QSTEPS, rows, strict=True):
        print(f"{qstep:5g}  {bpp:5.3f}  {db:6.3f}  {encode:5.2f}  {decode:5.2f}")
    curve = between_rates(np.array(rows)[:, :2], 0.15, 1.0)
    live = np.array([np.mean([jpeg(i, q) for i in pictures], axis=0) for q in QUALITIES])
    others = {"JPEG (Pillow, 4:2:0)": live}
    if args.curves:
        published = json.loads(args.curves.read_text())["curves"]
        others |= {n: np.array([c["bpp"], c["psnr_rgb_db"]]).T for n, c in published.items()}
    print("\nBD-rate between 0.15 and 1.0 bpp, RGB PSNR:")
    for name, other in others.items():
        print(f"{bd_rate_text(other, curve)}  against {name}")
    if args.plot:
        shown = ("JPEG", "WebP", "BPG", "VTM", "mbt2018-mean, variable")
        peers = {n: c for n, c in others.items() if n.startswith(shown)}
        plot(args.plot, {f"jvrc {model.config.architecture}": np.array(rows)[:, :2]} | peers)


if __name__ == "__main__":
    main()
