"""`jvrc compress` and `jvrc decompress`."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from jvrc.cli.common import (
    DEFAULT_MODEL,
    MODEL_HELP,
    add_command,
    add_output,
    library,
    output_path,
    parse_qstep,
    read_stream,
    result_text,
    timed,
)
from jvrc.frozen import zoo
from jvrc.qstep import QSTEP_MAX, QSTEP_MIN

_DEFAULT_QSTEP = 2.0


def add_compress(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "compress",
        _run_compress,
        "compress an image",
        "jvrc compress photo.png",
        "jvrc compress photo.png -o small.jvrc --qstep 8 --verify",
        "jvrc compress photo.png --effort 3",
    )
    parser.add_argument("input", metavar="IN", type=Path, help="an image file that Pillow can read")
    add_output(parser, "OUT.jvrc", "default: IN with the suffix .jvrc")
    parser.add_argument(
        "--qstep",
        type=parse_qstep,
        default=_DEFAULT_QSTEP,
        help=f"quantisation step, {QSTEP_MIN:g} (highest quality) to "
        f"{QSTEP_MAX:g} (fewest bytes); default: %(default)g",
    )
    parser.add_argument(
        "--model", default=DEFAULT_MODEL, help=f"{MODEL_HELP}; default: %(default)s"
    )
    parser.add_argument(
        "--effort",
        type=int,
        choices=range(4),
        default=0,
        help="a search for better symbols: higher takes longer and gives fewer bytes at the same "
        "quality; default: %(default)s",
    )
    parser.add_argument("--verify", action="store_true", help="decompress and print the PSNR too")


def add_decompress(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "decompress",
        _run_decompress,
        "decompress to an image",
        "jvrc decompress photo.jvrc",
        "jvrc decompress photo.jvrc -o restored.webp",
        "jvrc decompress photo.jvrc -o crop.png --crop 512,0,256,256",
    )
    parser.add_argument("input", metavar="IN.jvrc", type=Path, help="a file that compress wrote")
    add_output(parser, "OUT.png", "the suffix chooses the format; default: IN with .png")
    parser.add_argument(
        "--crop",
        metavar="X,Y,WIDTH,HEIGHT",
        type=_parse_crop,
        help="decompress these pixels only; default: the whole image",
    )
    parser.add_argument("--model", help=f"{MODEL_HELP}; default: the shipped model that made IN")


def _parse_crop(text: str) -> tuple[int, ...]:
    numbers = text.split(",")
    if len(numbers) != 4 or not all(number.strip().isdecimal() for number in numbers):
        raise argparse.ArgumentTypeError(f"must be X,Y,WIDTH,HEIGHT, got {text}")
    return tuple(int(number) for number in numbers)


def _run_compress(args: argparse.Namespace) -> None:
    from jvrc.io.files import write_bytes
    from jvrc.io.images import read_image

    output = output_path(args, ".jvrc")
    img = read_image(args.input)
    jvrc = library()
    model = jvrc.load(args.model)
    options = {"effort": args.effort, "progress": True}
    data, seconds = timed(partial(jvrc.compress, **options), model, img, args.qstep)
    quality = f", {_psnr(model, img, data):.2f} dB" if args.verify else ""
    write_bytes(output, data)
    print(f"{output}: {result_text(len(data), *img.shape[:2], seconds)}{quality}")


def _psnr(model: Any, img: Any, data: bytes) -> float:
    from jvrc.evaluation.metrics import psnr

    return psnr(img, library().decompress(model, data))


def _run_decompress(args: argparse.Namespace) -> None:
    from jvrc.io.images import check_image_suffix, write_image

    data, stream = read_stream(args.input)
    output = output_path(args, ".png")
    check_image_suffix(output)
    name = args.model or _shipped_model(stream.model_id)
    jvrc = library()
    model = jvrc.load(name)
    decompress = partial(jvrc.decompress, crop=args.crop)
    img, seconds = timed(decompress, model, data)
    write_image(output, img)
    height, width = img.shape[:2]
    if args.crop:
        print(f"{output}: {height}x{width} of {stream.height}x{stream.width}, {seconds:.2f} s")
    else:
        print(f"{output}: {height}x{width} from {result_text(len(data), height, width, seconds)}")


def _shipped_model(model_id: str) -> str:
    name = zoo.name_of(model_id)
    if name is None:
        raise ValueError(f"no shipped model has the id {model_id}: name its file with --model")
    return name
