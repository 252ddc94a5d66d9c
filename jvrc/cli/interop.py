"""`jvrc import-compressai`."""

import argparse
from pathlib import Path
from typing import Any

from jvrc.cli.common import (
    add_command,
    add_freezing_options,
    add_output,
    calibrated,
    library,
    parse_notes,
    parse_path,
)
from jvrc.cli.outputs import check_output, identities
from jvrc.runtime import extras

_ABOUT = """

FILE is a state dict, or a checkpoint of CompressAI's examples/train.py, of bmshj2018-hyperprior,
mbt2018-mean, mbt2018 or one of their variable-rate forms (-vbr), of any N and M. A -vbr model codes
well at all quantisation steps that it was trained for, 1 … 10 as published; a single-rate model
only at 1, and can be the base of `jvrc posttrain` or `jvrc train --log-scale no`. Calibration with
--data makes compressed files smaller (our own models: by 2 to 4 %, mbt2018 by 3 to 13 %).

Nothing is downloaded. CompressAI's documentation, "Model Zoo", has the published weights."""


def add_import_compressai(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "import-compressai",
        _run_import_compressai,
        "convert a model trained with CompressAI (needs torch and the extra `train`)",
        "jvrc import-compressai mbt2018-mean-vbr.pth.tar -o mean-vbr.safetensors --data photos/",
        "jvrc compress photo.png --model mean-vbr.safetensors --qstep 4",
        "jvrc import-compressai checkpoint_best_loss.pth.tar -o base.safetensors "
        "--note 'source=my run, quality 8'",
        "jvrc posttrain --from base.safetensors --data photos/ -o runs/all-rates",
    )
    parser.description += _ABOUT
    parser.add_argument(
        "input", metavar="FILE.pth.tar", type=parse_path, help="a file that torch.save wrote"
    )
    add_freezing_options(parser)
    add_output(parser, "OUT.safetensors", "default: FILE.safetensors")


def _run_import_compressai(args: argparse.Namespace) -> None:
    args.output = args.output or _default_output(args.input)
    output, notes = args.output, parse_notes(args.note)
    check_output(output, identities([args.input]), force=args.force)
    checkpoint = _read_checkpoint(args.input)
    extras.require("train")
    library()
    from jvrc.frozen.file import save_model
    from jvrc.interop import from_compressai
    from jvrc.training.data import datasets

    photographs = datasets.open_folder(args.data) if args.data else None
    try:
        model = from_compressai(checkpoint, **notes)
    except ValueError as error:
        raise ValueError(f"{args.input}: {error}") from error
    if photographs:
        model = calibrated(model, photographs)
    model = save_model(model, output)
    imported, config = model.metadata["imported"], model.config
    low, high = model.metadata["qstep_range"]
    print(
        f"{output}: model {model.model_id}, {imported['model']}, N = {config.N}, M = {config.M}, "
        f"qsteps {low:.3g} … {high:.3g}, {output.stat().st_size} bytes"
    )


def _default_output(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".tar")).with_suffix(".safetensors")


def _read_checkpoint(path: Path) -> Any:
    """Read a file of torch.save: arrays and plain values; code in the file is not run."""
    path.open("rb").close()  # a missing file is reported first
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            "reading a file of PyTorch needs torch, its CPU build will do: pip install torch "
            "(or hand the arrays to jvrc.interop.from_compressai)"
        ) from error
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # a damaged file can raise anything; PyTorch's advice is unsafe
        raise ValueError(
            f"{path}: damaged, or not arrays and plain values alone ({type(error).__name__}): "
            "write it anew with torch.save(net.state_dict(), FILE)"
        ) from error
