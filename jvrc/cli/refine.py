"""`jvrc refine`."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jvrc.cli.common import MODEL_HELP, add_command, add_output, parse_path
from jvrc.cli.outputs import check_output, identities
from jvrc.cli.sources import load_training, opened, print_skipped
from jvrc.frozen import zoo

_CHECKED = (1.0, 2.0, 4.0, 8.0, 16.0)  # qsteps at which files are compared
_CENTRE, _CENTRES = 512, 21  # side in pixels, and number, of the images compared


def add_refine(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "refine",
        _run_refine,
        "fit the scale refinement of a jvrc2026: smaller files, the same images (needs the extra "
        "`train`)",
        "jvrc refine small.safetensors --data photos/ -o refined.safetensors",
        "jvrc refine jvrc2026 --data photos/ -o quick.safetensors --steps 1000 --images 50",
    )
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument(
        "--data", metavar="DIR", type=parse_path, required=True, help="photographs to fit it to"
    )
    parser.add_argument(
        "--images", metavar="N", type=int, default=520, help="at most so many (default: 520)"
    )
    parser.add_argument(
        "--steps", metavar="N", type=int, default=10_000, help="training steps (default: 10000)"
    )
    parser.add_argument(
        "--hidden",
        metavar="H",
        type=int,
        default=96,
        help="channels of the hidden layers (default: 96)",
    )
    add_output(parser, "FILE", "the weights file to write; default: MODEL-refined.safetensors")


def _run_refine(args: argparse.Namespace) -> None:
    output = args.output or Path(f"{Path(args.model).stem}-refined.safetensors")
    for name in ("images", "steps", "hidden"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name} must be at least 1, got {getattr(args, name)}")
    check_output(output, identities([args.data]), force=args.force)
    load_training()
    from jvrc.export.refinement.fitting import refined
    from jvrc.frozen.file import save_model

    model, images = zoo.load(args.model), opened(args.data)
    some = _some(images.train, args.images)
    model = save_model(refined(model, some, hidden=args.hidden, training_steps=args.steps), output)
    print_skipped(images)
    print(
        f"{output}: model {model.model_id}, refinement {model.refinement_id}, "
        f"{output.stat().st_size} bytes"
    )
    for line in _comparison(model, images.held_out):
        print(line)


def _some(images: Any, most: int) -> Iterator[Any]:
    """Yield images, spread over all of them."""
    count = min(most, len(images))
    return (images[i * len(images) // count] for i in range(count))


def _comparison(model: Any, images: Any) -> Iterator[str]:
    """Yield a line for each qstep: the bytes of centres of images with and without refinement."""
    from dataclasses import replace

    from jvrc.codec.files import compress
    from jvrc.training.data import batches

    plain = replace(model, refinement=None)
    held_out = list(batches.centres(images, size=_CENTRE, limit=_CENTRES))
    for qstep in _CHECKED:
        sizes = [sum(len(compress(m, img, qstep)) for img in held_out) for m in (plain, model)]
        change = sizes[1] / sizes[0] - 1
        yield f"held out, qstep {qstep:g}: {sizes[0]} bytes, refined {sizes[1]}, {change:+.2%}"
