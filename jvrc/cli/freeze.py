"""`jvrc freeze`."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from jvrc.cli.common import (
    add_command,
    add_freezing_options,
    add_output,
    calibrated,
    parse_notes,
    parse_path,
)
from jvrc.cli.messages import UsageError
from jvrc.cli.outputs import check_output, identities
from jvrc.cli.recipe_options import first_recipe
from jvrc.cli.sources import load_training, opened
from jvrc.frozen import zoo
from jvrc.frozen.zoo import RUN_WEIGHTS
from jvrc.training.recipe.schema import SingleRateRecipe, model_fields


def add_freeze(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "freeze",
        _run_freeze,
        "write a run's newest weights as one file that compresses (needs the extra `train`)",
        "jvrc freeze runs/small --data photos/ -o small.safetensors",
        "jvrc freeze runs/encoder --decoder-of jvrc2026 -o jvrc2026.safetensors",
        "jvrc freeze params.npz --recipe jvrc2026 --data photos/ -o jvrc2026.safetensors",
    )
    parser.add_argument(
        "input",
        metavar="RUN",
        type=parse_path,
        help="the folder that train wrote, or PARAMS.npz of jvrc2026's prototype",
    )
    parser.add_argument(
        "--recipe",
        metavar="NAME|FILE",
        help="with PARAMS.npz: the recipe by which it was trained, but for its sizes",
    )
    parser.add_argument(
        "--decoder-of",
        metavar="MODEL",
        help="with a run of --train-decoder no: keep the id of the model that it began from, whose "
        "files stay readable",
    )
    add_freezing_options(parser)
    add_output(parser, "FILE", f"default: RUN/{RUN_WEIGHTS} or PARAMS.safetensors")


def _run_freeze(args: argparse.Namespace) -> None:
    notes = parse_notes(args.note)
    output = args.output or _default_output(args.input)
    check_output(output, identities([args.input]), force=args.force)
    if args.decoder_of and args.data:
        raise UsageError("--data fits tables, which --decoder-of keeps: pass one of them")
    load_training()
    run = _run_to_freeze(args)
    if args.decoder_of:
        _write_encoder(run, output, notes, args.decoder_of)
    else:
        write_frozen(run, output, notes, opened(args.data) if args.data else None)


def _default_output(path: Path) -> Path:
    if path.suffix == ".npz":
        return path.with_suffix(".safetensors")
    return path / RUN_WEIGHTS


def _run_to_freeze(args: argparse.Namespace) -> Any:
    """Return the run that was trained, or one that stands for parameters of the prototype."""
    from jvrc.interop import prototype
    from jvrc.training.run import run_folder

    if prototype.is_prototype(args.input) != bool(args.recipe):
        raise UsageError(
            "--recipe says how PARAMS.npz was trained: pass both, or neither for a run"
        )
    if not args.recipe:
        run = run_folder.load_run(args.input)
        if run.step == 0:
            raise ValueError(
                f"run must hold a training step to freeze; {args.input} holds what training began "
                "with: continue it with --resume"
            )
        return run
    config, params = prototype.read_prototype(args.input)
    recipe = replace(first_recipe(args.recipe, SingleRateRecipe), **model_fields(config))
    return run_folder.Run(config, params, recipe, recipe.steps, recipe.qstep_range())


def _write_encoder(run: Any, output: Path, notes: dict[str, str], decoder: str) -> None:
    """Write a model with the encoder of a run, and print a line."""
    from jvrc.export.encoder import freeze_encoder
    from jvrc.frozen.file import save_model

    model = save_model(freeze_encoder(zoo.load(decoder), run, notes), output)
    _print_written(model, run, output)


def write_frozen(run: Any, output: Path, notes: dict[str, str], images: Any) -> None:
    """Freeze a run into a file, with tables fitted to images if there are any, and print lines."""
    from jvrc.export.freezing import freeze_run
    from jvrc.frozen.file import save_model
    from jvrc.training.validation import extremes

    model = freeze_run(run, notes)
    if images:
        for line in extremes.described(run.config, run.params, images.held_out):
            print(line)
        model = calibrated(model, images)
    _print_written(save_model(model, output), run, output)


def _print_written(model: Any, run: Any, output: Path) -> None:
    inherited = model.fingerprint != model.model_id
    named = model.model_id + (f", encoder {model.fingerprint}" if inherited else "")
    print(f"{output}: model {named}, step {run.step}, {output.stat().st_size} bytes")
