"""`jvrc demo`: one photograph at five steps, restored from the written files, beside JPEG."""

import importlib.util
import os
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

import jvrc
from jvrc.evaluation.metrics import psnr
from jvrc.io.files import write_bytes
from jvrc.io.images import read_image, write_image

QSTEPS = (1.0, 2.0, 4.0, 8.0, 16.0)
SHEET = "side-by-side.png"

_COLUMNS = 3
_CAPTION_HEIGHT = 32  # pixels
_TILE_LIMIT = 960  # pixels: of larger pictures the sheet shows the centre, never a reduced view


class Row(NamedTuple):
    """The result at one step."""

    qstep: float
    size: int  # bytes of the file
    bpp: float  # bits per pixel
    psnr: float  # dB
    jpeg_psnr: float | None  # dB, of the best JPEG of that size; None if none is as small


def run(
    folder: str | os.PathLike,
    *,
    image: str | os.PathLike | None = None,
    model_name: str,
    force: bool = False,
) -> list[Row]:
    """Compresses, restores and compares; writes the .jvrc files and the pictures side by side.

    Raises:
      FileExistsError: a file to write exists and ``force`` is False.
      ValueError, OSError: as ``read_image`` and writing raise them.
    """
    folder = Path(folder)
    source = Path(image) if image else bundled_photo()
    img = read_image(source)
    paths = [folder / f"{source.stem}-{qstep:g}.jvrc" for qstep in QSTEPS]
    _check_free([*paths, folder / SHEET], force)
    folder.mkdir(parents=True, exist_ok=True)
    model = jvrc.load(model_name)
    rows, pictures, captions = [], [img], [f"original, {img.shape[0]}x{img.shape[1]}"]
    progress = tqdm(zip(QSTEPS, paths, strict=True), "steps", len(QSTEPS), False, disable=None)
    for qstep, path in progress:
        write_bytes(path, jvrc.compress(model, img, qstep))
        pictures.append(jvrc.decompress(model, path.read_bytes()))
        rows.append(_row(qstep, path, img, pictures[-1]))
        captions.append(f"step {qstep:g}: {rows[-1].bpp:.3f} bpp, {rows[-1].psnr:.2f} dB")
    write_image(folder / SHEET, contact_sheet(pictures, captions))
    return rows


def bundled_photo() -> Path:
    """Returns the path of the coffee cup that scikit-image's wheel holds, without importing it.

    Rachel Michetti's photograph, 400x600, CC0.
    """
    spec = importlib.util.find_spec("skimage")
    for package in spec.submodule_search_locations if spec else []:
        path = Path(package) / "data" / "coffee.png"
        if path.exists():
            return path
    raise FileNotFoundError("scikit-image with its photograph is missing; pass --image FILE")


def free_folder(name: str = "jvrc-demo") -> Path:
    """Returns the first of name, name-2, name-3, ... that does not exist."""
    number, folder = 1, Path(name)
    while folder.exists():
        number += 1
        folder = Path(f"{name}-{number}")
    return folder


def format_table(rows: list[Row]) -> str:
    """Returns the rows as aligned text under a head."""
    lines = ["qstep     bytes     bpp   PSNR dB   JPEG dB at that size"]
    for row in rows:
        jpeg = "-" if row.jpeg_psnr is None else f"{row.jpeg_psnr:.2f}"
        lines.append(f"{row.qstep:5g} {row.size:9d} {row.bpp:7.3f} {row.psnr:9.2f} {jpeg:>9}")
    return "\n".join(lines)


def jpeg_within(img: np.ndarray, limit: int) -> np.ndarray | None:
    """Returns ``img`` as the best JPEG of at most ``limit`` bytes restores it; None if none fits.

    The better, by PSNR, of 4:2:0 and 4:4:4, each at the highest quality that fits; progressive,
    with optimised Huffman tables.
    """
    fitting = [_jpeg_within(img, limit, subsampling) for subsampling in ("4:2:0", "4:4:4")]
    restored = [np.asarray(Image.open(BytesIO(data))) for data in fitting if data is not None]
    return max(restored, key=lambda candidate: psnr(img, candidate), default=None)


def contact_sheet(pictures: list[np.ndarray], captions: list[str]) -> np.ndarray:
    """Returns uint8 [H,W,3]: pictures of one shape in rows of three, a caption above each.

    Of a picture with a side above 960 pixels, its centre.
    """
    tiles = [_centre(picture) for picture in pictures]
    height, width = tiles[0].shape[:2]
    # A caption needs its room even above a tiny picture.
    cell = (max(width, 280) + 8, height + _CAPTION_HEIGHT + 8)
    rows = -(-len(tiles) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * cell[0], rows * cell[1]), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=18)
    for i, (tile, caption) in enumerate(zip(tiles, captions, strict=True)):
        left, top = i % _COLUMNS * cell[0] + 4, i // _COLUMNS * cell[1]
        draw.text((left, top + 6), caption, "black", font)
        sheet.paste(Image.fromarray(tile), (left, top + _CAPTION_HEIGHT))
    return np.asarray(sheet)


def _check_free(paths: list[Path], force: bool) -> None:
    taken = [path for path in paths if path.exists()]
    if taken and not force:
        raise FileExistsError(f"{taken[0]}: exists; --force overwrites it")


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


def _jpeg_within(img: np.ndarray, limit: int, subsampling: str) -> bytes | None:
    """Bisects Pillow's quality, 1 ... 100."""
    best, low, high = None, 1, 100
    while low <= high:
        quality = (low + high) // 2
        data = _jpeg(img, quality, subsampling)
        if len(data) <= limit:
            best, low = data, quality + 1
        else:
            high = quality - 1
    return best


def _jpeg(img: np.ndarray, quality: int, subsampling: str) -> bytes:
    buffer = BytesIO()
    options = {"quality": quality, "subsampling": subsampling}
    Image.fromarray(img).save(buffer, "JPEG", optimize=True, progressive=True, **options)
    return buffer.getvalue()


def _centre(img: np.ndarray) -> np.ndarray:
    top, left = (max(0, side - _TILE_LIMIT) // 2 for side in img.shape[:2])
    return img[top : top + _TILE_LIMIT, left : left + _TILE_LIMIT]
