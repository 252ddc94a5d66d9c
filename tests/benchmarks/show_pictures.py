"""A page of photographs as several codecs restore them from equal bytes.

    python tests/benchmarks/show_pictures.py A.png:300,100,256,192 B.png:0,0,256,192 -o page.webp

Codes each image with a model, with other codecs at the highest quality that fits into the same
bytes, and with the model again in no more bytes than the smallest of these. Shows them in a row
beside the original, with bytes and PSNR (of the whole image) above.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np

import jvrc
from jvrc import demo
from jvrc.evaluation import peers
from jvrc.evaluation.metrics import psnr
from jvrc.io import images


class Picture(NamedTuple):
    """An image and the part of it to show; None: all."""

    path: Path
    crop: tuple[int, ...] | None  # left, top, width, height


def main() -> None:
    args = _parse()
    model = jvrc.load(args.model)
    codecs = [peers.peer(name) for name in args.against]
    shown, captions = [], []
    for picture in args.pictures:
        for caption, restored in _versions(images.read_image(picture.path), model, codecs, args):
            shown.append(_enlarged(restored, picture.crop, args.zoom))
            captions.append(caption)
            print(f"{picture.path.name}: {caption}")
    page = demo.contact_sheet(shown, captions, columns=2 + len(codecs))
    images.write_image(args.output, page)


def _versions(
    img: np.ndarray, model: jvrc.FrozenModel, codecs: list[peers.Peer], args: argparse.Namespace
) -> list[tuple[str, np.ndarray]]:
    """Return captions and images: the original, the model, and each codec in as many bytes."""
    limit = len(jvrc.compress(model, img, args.qstep))
    others = [c.encode_within(img, limit) or c.encode(img, 0) for c in codecs]
    data = jvrc.compress(model, img, target_bytes=min(map(len, others)), effort=args.effort)
    coded = [(args.model, data, jvrc.decompress(model, data))]
    for codec, file in zip(codecs, others, strict=True):
        coded.append((codec.title, file, peers.decode(file)))
    return [(f"original; {8 * len(data) / img[..., 0].size:.2f} bpp", img)] + [
        (f"{title}: {len(file)} bytes, {psnr(img, restored):.2f} dB", restored)
        for title, file, restored in coded
    ]


def _enlarged(img: np.ndarray, crop: tuple[int, ...] | None, zoom: int) -> np.ndarray:
    if crop:
        left, top, width, height = crop
        img = img[top : top + height, left : left + width]
    return img.repeat(zoom, 0).repeat(zoom, 1)


def _picture(text: str) -> Picture:
    path, _, numbers = text.rpartition(":")
    if not path:
        return Picture(Path(text), None)
    crop = tuple(int(part) for part in numbers.split(","))
    if len(crop) != 4:
        raise argparse.ArgumentTypeError(f"must be FILE:LEFT,TOP,WIDTH,HEIGHT; got {text}")
    return Picture(Path(path), crop)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "pictures", metavar="FILE[:LEFT,TOP,WIDTH,HEIGHT]", nargs="+", type=_picture
    )
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--model", default="jvrc2026")
    parser.add_argument("--qstep", type=float, default=8.0)
    parser.add_argument("--effort", type=int, default=0)
    parser.add_argument("--against", type=lambda text: text.split(","), default=["avif", "jpegxl"])
    parser.add_argument("--zoom", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
