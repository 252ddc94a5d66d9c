"""Bytes and PSNR of images that are no photographs, without and with patches, as a Markdown table.

    python tests/benchmarks/bench_unnatural.py [IMAGE…] [--model NAME] [--qsteps 1,3,12]

Without images, those of tests/unnatural.py. The JPEG is 4:4:4, of the lowest quality that reaches
the PSNR of the file with patches, or of quality 100.
"""

import argparse
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import jvrc
from jvrc import demo
from jvrc.coding.packing import unpack
from jvrc.coding.patch import patched_blocks
from jvrc.evaluation import peers
from jvrc.io.images import read_image

sys.path.insert(0, str(Path(__file__).parents[1]))
from unnatural import drawings


def psnr(found: np.ndarray, img: np.ndarray) -> float:
    """Return the PSNR in dB, at most 99."""
    mse = np.mean(np.square(found.astype(np.int32) - img), dtype=np.float64)
    return float(min(99.0, 10 * np.log10(255**2 / max(mse, 1e-9))))


def coded(img: np.ndarray, kind: str, **options: Any) -> bytes:
    """Return the file that Pillow writes."""
    buffer = BytesIO()
    Image.fromarray(img).save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg_reaching(img: np.ndarray, least: float) -> tuple[bytes, float]:
    """Return (file, PSNR) of the JPEG described above."""
    low, high = 1, 100
    while low < high:
        middle = (low + high) // 2
        reached = psnr(peers.decode(coded(img, "JPEG", quality=middle, subsampling=0)), img)
        low, high = (low, middle) if reached >= least else (middle + 1, high)
    data = coded(img, "JPEG", quality=low, subsampling=0)
    return data, psnr(peers.decode(data), img)


def row(model: jvrc.FrozenModel, name: str, img: np.ndarray, qstep: float) -> str:
    """Return a row of the table: bpp and PSNR of each codec."""

    def cell(data: bytes, reached: float) -> str:
        exact = "exact" if reached == 99 else f"{reached:.1f}"
        return f"{8 * len(data) / img[..., 0].size:.3f}, {exact}"

    without = jvrc.compress(model, img, qstep, patches=False)
    data = jvrc.compress(model, img, qstep)
    reached = psnr(jvrc.decompress(model, data), img)
    patched, blocks = patched_blocks(unpack(data))
    cells = [
        f"{name}, {qstep:g}",
        cell(without, psnr(jvrc.decompress(model, without), img)),
        cell(data, reached),
        f"{patched} of {blocks}",
        cell(coded(img, "WEBP", lossless=True), 99),
        cell(*jpeg_reaching(img, reached)),
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="*", type=Path)
    parser.add_argument("--model", default="jvrc2026")
    parser.add_argument("--qsteps", default="1,3,12")
    args = parser.parse_args()
    images = {path.name: read_image(path) for path in args.images}
    images = images or drawings(read_image(demo.bundled_photo()))
    model = jvrc.load(args.model)
    print("| image, qstep | without | with patches | patched | WebP lossless | JPEG |")
    print("|---|---|---|---|---|---|")
    for name, img in images.items():
        for qstep in map(float, args.qsteps.split(",")):
            print(row(model, name, np.ascontiguousarray(img), qstep), flush=True)


if __name__ == "__main__":
    main()
