"""`jvrc demo`: one photograph at five quantisation steps, beside JPEG files of the same size."""

import importlib.util
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

import jvrc
from jvrc.evaluation import peers
from jvrc.evaluation.metrics import psnr
from jvrc.io.files import write_bytes
from jvrc.io.images import read_image, write_image

QSTEPS = (1.0, 2.0, 4.0, 8.0, 16.0)
SHEET = "side-by-side.png"

# All in pixels. Of larger images the contact sheet shows the centre, not a reduced view.
_CAPTION_HEIGHT, _CAPTION_WIDTH, _FONT_SIZE = 32, 280, 18
_GAP, _CENTRE_LIMIT = 8, 960


class Row(NamedTuple):
    """The result at one quantisation step."""

    qstep: float
    size: int  # bytes of the file
    bpp: float  # bits per pixel
    psnr: float  # dB
    jpeg_psnr: float | None  # dB, of the best JPEG of that size; None if none is as small


def run(folder: str | os.PathLike, source: str | os.PathLike, *, model_name: str) -> list[Row]:
    """Write a .jvrc file for each step and a sheet of the restored images; return the results.

    Args:
      folder: where to write `outputs`; made if missing. Files of their names are overwritten.
      source: the image to compress.
      model_name: as for `jvrc.load`.

    Raises:
      ValueError, OSError: as `read_image` and `write_bytes`.
    """
    folder, img = Path(folder), read_image(source)
    *paths, sheet = outputs(folder, source)
    folder.mkdir(parents=True, exist_ok=True)
    model = jvrc.load(model_name)
    rows, shown, captions = [], [img], [f"original, {img.shape[0]}x{img.shape[1]}"]
    progress = tqdm(zip(QSTEPS, paths, strict=True), "qsteps", len(QSTEPS), False, disable=None)
    for qstep, path in progress:
        write_bytes(path, jvrc.compress(model, img, qstep))
        restored = jvrc.decompress(model, path.read_bytes())
        rows.append(_row(qstep, path, img, restored))
        shown.append(restored)
        captions.append(f"qstep {qstep:g}: {rows[-1].bpp:.3f} bpp, {rows[-1].psnr:.2f} dB")
    write_image(sheet, contact_sheet(shown, captions))
    return rows


def outputs(folder: str | os.PathLike, source: str | os.PathLike) -> list[Path]:
    """Return the files that `run` writes: one for each of QSTEPS, and the sheet."""
    names = [f"{Path(source).stem}-{qstep:g}.jvrc" for qstep in QSTEPS]
    return [Path(folder, name) for name in (*names, SHEET)]


def bundled_photo() -> Path:
    """Return the path of a photograph in scikit-image's wheel; the package is not imported.

    A coffee cup by Rachel Michetti, 400x600 pixels, CC0.
    """
    spec = importlib.util.find_spec("skimage")
    for package in spec.submodule_search_locations if spec else []:
        path = Path(package) / "data" / "coffee.png"
        if path.exists():
            return path
    raise FileNotFoundError("scikit-image with its photograph is missing; pass --image FILE")


def free_folder(name: str = "jvrc-demo") -> Path:
    """Return the first path of name, name-2, name-3, ... that does not exist."""
    number, folder = 1, Path(name)
    while folder.exists():
        number += 1
        folder = Path(f"{name}-{number}")
    return folder


def format_table(rows: list[Row]) -> str:
    """Return the results as a table in text."""
    lines = ["qstep     bytes     bpp   PSNR dB   JPEG dB at that size"]
    for row in rows:
        jpeg = "-" if row.jpeg_psnr is None else f"{row.jpeg_psnr:.2f}"
        lines.append(f"{row.qstep:5g} {row.size:9d} {row.bpp:7.3f} {row.psnr:9.2f} {jpeg:>9}")
    return "\n".join(lines)


def jpeg_within(img: np.ndarray, limit: int) -> np.ndarray | None:
    """Return `img` as the best JPEG of at most `limit` bytes restores it; None if none fits.

    The better, by PSNR, of 4:2:0 and 4:4:4, each at the highest quality that fits; progressive,
    with optimised Huffman tables.
    """
    files = [peers.jpeg(chroma).encode_within(img, limit) for chroma in ("4:2:0", "4:4:4")]
    restored = [peers.decode(data) for data in files if data is not None]
    return max(restored, key=lambda candidate: psnr(img, candidate), default=None)


def contact_sheet(images: list[np.ndarray], captions: list[str], columns: int = 3) -> np.ndarray:
    """Return uint8 [H,W,3] with images of one shape in rows of `columns`, a caption above each.

    Of images with a side above 960 pixels it shows the centre.
    """
    centres = [_centre(img) for img in images]
    height, width = centres[0].shape[:2]
    cell_width = max(width, _CAPTION_WIDTH) + _GAP
    cell_height = height + _CAPTION_HEIGHT + _GAP
    rows = -(-len(centres) // columns)
    sheet = Image.new("RGB", (columns * cell_width, rows * cell_height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=_FONT_SIZE)
    for i, (img, caption) in enumerate(zip(centres, captions, strict=True)):
        left, top = i % columns * cell_width + _GAP // 2, i // columns * cell_height
        draw.text((left, top + (_CAPTION_HEIGHT - _FONT_SIZE) // 2), caption, "black", font)
        sheet.paste(Image.fromarray(img), (left, top + _CAPTION_HEIGHT))
    return np.asarray(sheet)


def _row(qstep: float, path: Path, img: np.ndarray, restored: np.ndarray) -> Row:
    size = path.stat().st_size
    jpeg = jpeg_within(img, size)
    return Row(
        qstep=qstep,
        size=size,
        bpp=8 * size / (img.shape[0] * img.shape[1]),
        psnr=psnr(img, restored),
        jpeg_psnr=None if jpeg is None else psnr(img, jpeg),
    )


def _centre(img: np.ndarray) -> np.ndarray:
    top, left = (max(0, side - _CENTRE_LIMIT) // 2 for side in img.shape[:2])
    return img[top : top + _CENTRE_LIMIT, left : left + _CENTRE_LIMIT]
