"""A page of one photograph as several codecs restore it from equal bytes.

    python tests/benchmarks/show_pictures.py IMAGE -o page.png --qstep 8 --crop 300,100,256,256

Codes an image with a model, then with Pillow's JPEG, WebP and AVIF at the highest quality that fits
into the same bytes, and shows the results beside the original, with bytes and PSNR above.
"""

import argparse
from pathlib import Path

import numpy as np

import jvrc
from jvrc import demo
from jvrc.evaluation import peers
from jvrc.evaluation.metrics import psnr
from jvrc.io import images


def main() -> None:
    args = _parse()
    img = images.read_image(args.image)
    model = jvrc.load(args.model)
    data = jvrc.compress(model, img, args.qstep, effort=args.effort)
    name = f"{args.model}, effort {args.effort}" if args.effort else args.model
    shown = [("original", img, None), (name, jvrc.decompress(model, data), len(data))]
    for codec in map(peers.peer, args.against.split(",")):
        found = codec.encode_within(img, len(data))
        if found is None:
            print(f"{codec.title}: no quality gives {len(data)} bytes or less")
            continue
        shown.append((codec.title, peers.decode(found), len(found)))
    captions = [
        title if size is None else f"{title}: {size} bytes, {psnr(img, restored):.2f} dB"
        for title, restored, size in shown
    ]
    page = demo.contact_sheet([_enlarged(p, args) for _, p, _ in shown], captions)
    images.write_image(args.output, page)
    print(f"{args.output}: " + "; ".join(captions))


def _enlarged(img: np.ndarray, args: argparse.Namespace) -> np.ndarray:
    if args.crop:
        left, top, width, height = args.crop
        img = img[top : top + height, left : left + width]
    return img.repeat(args.zoom, 0).repeat(args.zoom, 1)


def _crop(text: str) -> tuple[int, ...]:
    numbers = tuple(int(part) for part in text.split(","))
    if len(numbers) != 4:
        raise argparse.ArgumentTypeError(f"must be LEFT,TOP,WIDTH,HEIGHT; got {text}")
    return numbers


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--model", default="mbt2018-mean")
    parser.add_argument("--qstep", type=float, default=8.0)
    parser.add_argument("--effort", type=int, default=0)
    parser.add_argument("--against", default="jpeg,webp,avif")
    parser.add_argument("--crop", type=_crop, help="LEFT,TOP,WIDTH,HEIGHT in pixels")
    parser.add_argument("--zoom", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
