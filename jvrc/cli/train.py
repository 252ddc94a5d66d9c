"""`jvrc train`, `jvrc posttrain` and `jvrc freeze`."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from jvrc.cli.common import (
    add_command,
    add_freezing_options,
    add_output,
    calibrated,
    library,
    parse_notes,
)

_WEIGHTS = "model.safetensors"


def _flag(text: str) -> bool:
    known = {"yes": True, "no": False}
    if text not in known:
        raise argparse.ArgumentTypeError(f"must be yes or no; got {text!r}")
    return known[text]


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"must be numbers with commas between; got {text!r}"
        ) from error


_COMMON_FIELDS = (
    ("steps", int, "steps of the whole schedule"),
    ("batch", int, "crops a step"),
    ("crop", int, "side of a crop in pixels, a multiple of 64"),
    ("learning_rate", float, "at the peak of the schedule"),
    ("final_rate", float, "fraction of it that the schedule's cosine ends at"),
    ("warmup", int, "steps of rising learning rate"),
    ("begin", int, "the step of the schedule to begin with; --from names what was done before"),
    ("optimizer", str, "muon or adam"),
    ("transforms", _flag, "yes or no: train g_a and g_s, or the entropy model alone"),
    ("offsets", _flag, "yes or no: train the reconstruction offsets"),
    ("z_step", _flag, "yes or no: train the step of the hyper latent"),
    ("precision", str, "of g_a and g_s: float32 or bfloat16"),
    ("seed", int, "of everything random"),
)
_TRAIN_FIELDS = (
    ("model", str, "architecture"),
    ("n", int, "channels of the transforms and of z"),
    ("m", int, "channels of y"),
    *_COMMON_FIELDS,
    ("log_scale", _flag, "yes or no: predict log sigma, or sigma as models of CompressAI do"),
    ("start", str, "pyramid (calibrated on the pictures) or random"),
    ("balance", float, "power of the step that losses are weighted by; greater: for low rates"),
    ("qstep_low", float, "smallest step trained"),
    ("qstep_high", float, "largest step trained"),
)
_POST_FIELDS = (
    *_COMMON_FIELDS,
    ("qsteps", _numbers, "the steps Delta_k, commas between; default: the paper's eight, 10 … 1"),
    ("lambdas", _numbers, "lambda_k for each; default 0.18 / Delta_k^2"),
    ("between", _flag, "yes or no: draw the steps anew in the range of --qsteps"),
    ("learn_qsteps", _flag, "yes or no: move Delta_k by gradients at fixed lambda_k"),
    ("aggregator", str, "weights from gradients: mgda, frank-wolfe, mean, random, upgrad, cagrad"),
    ("scale", str, "objectives divided by: none, loss, rate (bpp), gradient (norm), lambda (root)"),
    ("floor", float, "no weight of the scaled objectives below this times their mean"),
    ("gram", str, "exact, or latents: cheaper, one pass back through g_a"),
)


def add_train(subparsers: Any) -> None:
    """Adds the command."""
    parser = add_command(
        subparsers,
        "train",
        _run_train,
        "train a model on pictures (needs the extra `train`)",
        "jvrc train --data photos/ --n 64 --m 192 --steps 10000 -o runs/small",
        "jvrc train --data photos/ --recipe recipes/mbt2018-mean.json -o runs/small",
        "jvrc train --data photos/ -o runs/small --resume",
        "jvrc train --data photos/ --n 64 --m 192 --from mbt2018-mean -o runs/further",
    )
    parser.add_argument(
        "--from",
        dest="source",
        metavar="RUN|MODEL",
        type=Path,
        help="start there: a run, a weights file or a shipped model",
    )
    parser.add_argument(
        "--transforms-from",
        metavar="RUN|MODEL",
        type=Path,
        help="with --from: take g_a and g_s from there",
    )
    _add_run_options(parser, "Recipe", _TRAIN_FIELDS)


def add_posttrain(subparsers: Any) -> None:
    """Adds the command."""
    parser = add_command(
        subparsers,
        "posttrain",
        _run_posttrain,
        "make a trained model serve all rates: several rates a step, their gradients weighed "
        "against each other (needs the extra `train`)",
        "jvrc posttrain --from runs/base --data photos/ -o runs/all-rates",
        "jvrc posttrain --from base.safetensors --tfds clic:train -o runs/all-rates --gram latents",
        "jvrc posttrain --data photos/ -o runs/all-rates --resume",
    )
    parser.add_argument(
        "--from",
        dest="source",
        metavar="RUN|MODEL",
        type=Path,
        help="the trained model: a run, a weights file or a shipped one",
    )
    _add_run_options(parser, "PostRecipe", _POST_FIELDS)
    devices = parser.add_argument_group("devices", "default: all that JAX sees share the batch")
    devices.add_argument(
        "--rate-devices", metavar="R", type=int, default=1, help="R of them share the rates"
    )
    devices.add_argument(
        "--distributed", action="store_true", help="one of several processes (a TPU pod's hosts)"
    )


def _add_run_options(parser: Any, record: str, recipe_fields: tuple) -> None:
    pictures = parser.add_mutually_exclusive_group(required=True)
    pictures.add_argument("--data", metavar="DIR", type=Path, help="pictures, any depth")
    pictures.add_argument(
        "--tfds", metavar="NAME[:SPLIT]", help="a prepared data set of TensorFlow Datasets"
    )
    parser.add_argument("--tfds-dir", metavar="DIR", type=Path, help="where data sets lie")
    parser.add_argument(
        "-o", "--output", metavar="RUN", type=Path, required=True, help="run folder"
    )
    parser.add_argument(
        "--recipe", metavar="FILE", type=Path, help="a JSON file of the fields below"
    )
    parser.add_argument("--resume", action="store_true", help="go on where RUN stopped")
    parser.add_argument("--stop-after", metavar="S", type=int, help="end early, to resume later")
    parser.add_argument(
        "--minutes", metavar="T", type=float, help="end after T minutes, to resume later"
    )
    fields = parser.add_argument_group("recipe", f"defaults: see jvrc.training.recipe.{record}")
    for name, kind, text in recipe_fields:
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
    add_freezing_options(parser)
    add_output(parser, "FILE", f"default: RUN/{_WEIGHTS}")


def _recipe(args: argparse.Namespace, kind: Any) -> Any:
    from jvrc.training.recipe import load_recipe

    saved = args.output / "recipe.json"
    source = args.recipe or (saved if args.resume and saved.exists() else None)
    recipe = load_recipe(source, kind) if source else kind()
    given = {k: v for k, v in vars(args).items() if hasattr(recipe, k) and v is not None}
    return replace(recipe, **given)


def _photographs(args: argparse.Namespace) -> Any:
    from jvrc.training import data, tfds_source

    if args.tfds:
        return tfds_source.open_tfds(args.tfds, args.tfds_dir)
    return data.open_folder(args.data)


def _one_source(args: argparse.Namespace) -> None:
    if args.source and args.resume:
        raise ValueError("--from starts a new run, --resume goes on with one: pass one of them")


def _run_train(args: argparse.Namespace) -> None:
    from jvrc.training.recipe import Recipe

    _one_source(args)
    recipe = _recipe(args, Recipe)
    loop = _training_loop()
    if args.source is None:
        if args.transforms_from:
            raise ValueError("--transforms-from needs --from, the model that gets the transforms")
        _train(args, recipe, None)
        return
    from jvrc.training import data, warm_start

    loop.check_run(args.output, recipe, args.resume)  # before the pictures are read
    photographs = _photographs(args)

    def crops() -> Any:
        return loop.calibration_crops(recipe, data.Pictures(photographs.train))

    config = recipe.config()
    init, described = warm_start.params_from(args.source, config, crops, seed=recipe.seed)
    if args.transforms_from:
        transforms, named = warm_start.transforms_from(args.transforms_from, config)
        init, described = init | transforms, f"{described}, transforms of {named}"
    _train(args, replace(recipe, init=described), init, photographs=photographs)


def _run_posttrain(args: argparse.Namespace) -> None:
    from jvrc.training.recipe import PostRecipe

    _one_source(args)
    recipe, init = _recipe(args, PostRecipe), None
    _training_loop()
    if args.distributed:
        import jax

        jax.distributed.initialize()
    if not args.resume:
        from jvrc.training import warm_start

        if args.source is None:
            raise ValueError("--from must name the run or weights file to post-train; got none")
        config, init, described = warm_start.read_source(args.source)
        recipe = recipe.of_model(config, described)
    _train(args, recipe, init, rate_devices=args.rate_devices)


def _train(
    args: argparse.Namespace,
    recipe: Any,
    init: Any,
    *,
    rate_devices: int = 1,
    photographs: Any = None,
) -> None:
    loop = _training_loop()
    loop.check_run(args.output, recipe, args.resume)  # before the pictures are read
    mesh = loop.make_mesh(rate_devices)
    photographs = photographs or _photographs(args)
    ends = {"stop_after": args.stop_after, "minutes": args.minutes}
    options = {"resume": args.resume, "init": init, "mesh": mesh} | ends
    run = loop.train(recipe, photographs, args.output, **options)
    if loop.is_first_process():
        _write(run, args.output / _WEIGHTS, {}, photographs)


def _run_freeze(args: argparse.Namespace) -> None:
    from jvrc.training import data

    notes = parse_notes(args.note)
    output = args.output or args.input / _WEIGHTS
    if output.exists() and not args.force:
        raise FileExistsError(f"{output}: exists; --force overwrites it")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"{output.parent}: no such folder")
    run = _training_loop().load_run(args.input)
    _write(run, output, notes, data.open_folder(args.data) if args.data else None)


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


def _write(run: Any, output: Path, notes: dict[str, str], photographs: Any) -> None:
    from jvrc.export.freezing import freeze_run
    from jvrc.frozen.file import save_model

    model = freeze_run(run, notes)
    if photographs:
        model = calibrated(model, photographs)
    model = save_model(model, output)
    print(f"{output}: model {model.model_id}, step {run.step}, {output.stat().st_size} bytes")
