"""`jvrc demo`."""

import argparse
from typing import Any

from jvrc.cli.common import DEFAULT_MODEL, add_command, add_output, library, parse_path
from jvrc.cli.outputs import check_output, identities


def add_demo(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "demo",
        _run_demo,
        "compress a photograph at five quantisation steps, beside JPEG",
        "jvrc demo",
        "jvrc demo -o sheet --image photo.png",
    )
    add_output(parser, "DIR", "folder for the files; default: a new one, jvrc-demo")
    parser.add_argument(
        "--image", type=parse_path, help="an image to take instead of the bundled photograph"
    )


def _run_demo(args: argparse.Namespace) -> None:
    library()
    from jvrc import demo

    folder, source = args.output or demo.free_folder(), args.image or demo.bundled_photo()
    if folder.exists():
        for path in demo.outputs(folder, source):
            check_output(path, identities([source]), force=args.force)
    rows = demo.run(folder, source, model_name=DEFAULT_MODEL)
    print(demo.format_table(rows))
    print(f"files in {folder}, side by side in {folder / demo.SHEET}")
