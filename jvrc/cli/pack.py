"""`jvrc pack`."""

import argparse
from pathlib import Path
from typing import Any

from jvrc.cli.common import add_command, add_output, parse_numbers, parse_path
from jvrc.cli.outputs import check_output, identities
from jvrc.cli.sources import print_skipped


def add_pack(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "pack",
        _run_pack,
        "write the tiles of many images into one file to train on",
        "jvrc pack photos/ -o photos.tiles",
        "jvrc pack photos/ -o photos.tiles --scales 1,0.7,0.5",
    )
    parser.add_argument(
        "input", metavar="DIR", type=parse_path, help="images, in folders of any depth"
    )
    add_output(parser, "FILE", "default: DIR.tiles")
    parser.add_argument("--side", metavar="N", type=int, help="pixels a side (default: 512)")
    parser.add_argument(
        "--stride", metavar="N", type=int, help="pixels from a tile to the next one (default: 384)"
    )
    parser.add_argument(
        "--scales",
        metavar="X,X,…",
        type=parse_numbers,
        help="scales at which each image is stored, where it fills a tile (default: 1,0.5)",
    )
    parser.add_argument(
        "--unnatural",
        metavar="N",
        type=int,
        help="tiles of text, screens, dither, patterns and noise to add (default: 288)",
    )


def _run_pack(args: argparse.Namespace) -> None:
    output = args.output or Path(f"{args.input.resolve()}.tiles")
    check_output(output, identities([args.input]), force=args.force)
    from jvrc.training.data import datasets, tile_file

    given = {name: getattr(args, name) for name in tile_file.Tiling._fields}
    tiling = tile_file.Tiling(**{name: v for name, v in given.items() if v is not None})
    images = datasets.open_folder(args.input)
    count = tile_file.pack(images, output, tiling)
    print_skipped(images)
    packed, held_out = (len(part) - len(part.skipped) for part in images)
    print(
        f"{output}: {count} tiles of {packed} images, {output.stat().st_size} bytes, "
        f"{held_out} images held out"
    )
