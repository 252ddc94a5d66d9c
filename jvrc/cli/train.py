"""`jvrc train` and `jvrc freeze`."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from jvrc.cli.common import add_command, add_output, library

_WEIGHTS = "model.safetensors"
_RESERVED = ("recipe", "config", "params", "qstep_range", "format", "model_id", "calibration")
_CALIBRATION_PICTURES, _CALIBRATION_CROP = 64, 384


def add_train(subparsers: Any) -> None:
    """Adds the command."""
    parser = add_command(
        subparsers,
        "train",
        _run_train,
        "train a model on a folder of pictures (needs the extra `train`)",
        "jvrc train --data photos/ --n 64 --m 192 --steps 10000 -o runs/small",
        "jvrc train --data photos/ --recipe recipes/mbt2018-mean.json -o runs/small",
        "jvrc train --data photos/ -o runs/small --resume",
    )
    parser.add_argument(
        "--data", metavar="DIR", type=Path, required=True, help="pictures, any depth"
    )
    parser.add_argument(
        "-o", "--output", metavar="RUN", type=Path, required=True, help="run folder"
    )
    parser.add_argument(
        "--recipe", metavar="FILE", type=Path, help="a JSON file of the fields below"
    )
    parser.add_argument("--resume", action="store_true", help="go on where RUN stopped")
    parser.add_argument("--from", dest="source", metavar="RUN|FILE", type=Path, help="start there")
    parser.add_argument("--stop-after", metavar="S", type=int, help="end early, to resume later")
    fields = parser.add_argument_group("recipe", "defaults: see jvrc.training.recipe.Recipe")
    for name, kind, text in (
        ("model", str, "architecture"),
        ("n", int, "channels of the transforms and of z"),
        ("m", int, "channels of y"),
        ("steps", int, "steps of the whole schedule"),
        ("batch", int, "crops a step"),
        ("crop", int, "side of a crop in pixels, a multiple of 64"),
        ("learning_rate", float, "at the peak of the schedule"),
        ("optimizer", str, "muon or adam"),
        ("start", str, "pyramid (calibrated on the pictures) or random"),
        ("qstep_low", float, "smallest step trained"),
        ("qstep_high", float, "largest step trained"),
        ("seed", int, "of everything random"),
    ):
        fields.add_argument(f"--{name.replace('_', '-')}", dest=name, type=kind, help=text)


def add_freeze(subparsers: Any) -> None:
    """Adds the command."""
    parser = add_command(
        subparsers,
        "freeze",
        _run_freeze,
        "write a run's newest weights as one file that compresses (needs the extra `train`)",
        "jvrc freeze runs/small --data photos/ -o small.safetensors",
    )
    parser.add_argument("input", metavar="RUN", type=Path, help="what train wrote")
    parser.add_argument(
        "--note", action="append", default=[], metavar="KEY=TEXT", help="for the header"
    )
    parser.add_argument(
        "--data", metavar="DIR", type=Path, help="fit the tables to some of these pictures"
    )
    add_output(parser, "FILE", f"default: RUN/{_WEIGHTS}")


def _recipe(args: argparse.Namespace) -> Any:
    from jvrc.training.recipe import Recipe, load_recipe

    saved = args.output / "recipe.json"
    source = args.recipe or (saved if args.resume and saved.exists() else None)
    recipe = load_recipe(source) if source else Recipe()
    given = {k: v for k, v in vars(args).items() if hasattr(recipe, k) and v is not None}
    return replace(recipe, **given)


def _run_train(args: argparse.Namespace) -> None:
    if args.source and args.resume:
        raise ValueError("--from starts a new run, --resume goes on with one: pass one of them")
    recipe = _recipe(args)
    loop = _training_loop()
    from jvrc.training import start

    init = None
    if args.source:
        init, described = start.params_from(args.source, loop.model_config(recipe))
        recipe = replace(recipe, init=described)
    run = loop.train(
        recipe, args.data, args.output, resume=args.resume, init=init, stop_after=args.stop_after
    )
    _write(run, args.output / _WEIGHTS, {}, args.data)


def _run_freeze(args: argparse.Namespace) -> None:
    notes = _notes(args.note)
    output = args.output or args.input / _WEIGHTS
    if output.exists() and not args.force:
        raise FileExistsError(f"{output}: exists; --force overwrites it")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"{output.parent}: no such folder")
    _write(_training_loop().load_run(args.input), output, notes, args.data)


def _training_loop() -> Any:
    library()
    try:
        import optax  # noqa: F401
        import orbax.checkpoint  # noqa: F401
    except ImportError as error:
        remedy = "pip install 'jvrc[train]'"
        raise ValueError(f"training needs the extra `train` ({error.name}): {remedy}") from error
    from jvrc.training import loop

    return loop


def _notes(pairs: list[str]) -> dict[str, str]:
    for pair in pairs:
        key, equals, _ = pair.partition("=")
        if not equals or key in _RESERVED:
            raise ValueError(
                f"--note must be KEY=TEXT, KEY none of {', '.join(_RESERVED)}; got {pair!r}"
            )
    return dict(pair.split("=", 1) for pair in pairs)


def _write(run: Any, output: Path, notes: dict[str, str], folder: Path | None) -> None:
    from jvrc import calibration, frozen
    from jvrc.freezing import freeze_run
    from jvrc.training import data

    model = freeze_run(run, notes)
    if folder:
        paths, _ = data.split_validation(data.list_images(folder))
        crops = data.centres(paths, size=_CALIBRATION_CROP, limit=_CALIBRATION_PICTURES)
        model = calibration.calibrate(model, crops)
    model = frozen.save(model, output)
    print(f"{output}: model {model.model_id}, step {run.step}, {output.stat().st_size} bytes")
