"""`jvrc train` and `jvrc posttrain`."""

import argparse
import sys
from dataclasses import replace
from typing import Any

from jvrc.cli.common import add_command, parse_path
from jvrc.cli.freeze import write_frozen
from jvrc.cli.messages import UsageError
from jvrc.cli.recipe_options import (
    add_recipe_options,
    chosen_recipe,
    next_command,
    resume_command,
)
from jvrc.cli.sources import images_of, load_training, print_skipped, read_source
from jvrc.frozen.zoo import RUN_WEIGHTS
from jvrc.training.recipe.schema import MultiRateRecipe, SingleRateRecipe
from jvrc.training.run.clock import StartUp


def add_train(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "train",
        _run_train,
        "train a model on images (needs the extra `train`)",
        "jvrc train --data photos/ --n 64 --m 192 --steps 10000 -o runs/small",
        "jvrc train --data photos/ --recipe mbt2018-mean -o runs/small",
        "jvrc train --data photos/ -o runs/small --resume",
        "jvrc train --data photos.tiles --recipe jvrc2026 --minutes 9 -o runs/piece",
        "jvrc train --data photos/ --from mbt2018-mean -o runs/further",
        "jvrc train --data photos/ --recipe jvrc2026 --m 192 --sizes C=128,K=128 -o runs/new",
    )
    _add_from(
        parser,
        "begin with the parameters of a run, a weights file or a shipped model, and, without "
        "--recipe, with its sizes",
    )
    parser.add_argument(
        "--transforms-from",
        metavar="RUN|MODEL",
        type=parse_path,
        help="with --from: take g_a and g_s from this one",
    )
    _add_run_options(parser)
    add_recipe_options(parser, SingleRateRecipe)


def add_posttrain(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "posttrain",
        _run_posttrain,
        "train a model further for all rates: several rates at each training step, their gradients "
        "weighed against each other (needs the extra `train`)",
        "jvrc posttrain --from runs/base --data photos/ -o runs/all-rates",
        "jvrc posttrain --from base.safetensors --tfds clic:train -o runs/all-rates --gram latents",
        "jvrc posttrain --data photos/ -o runs/all-rates --resume",
    )
    _add_from(parser, "the trained model: a run, a weights file or a shipped model")
    devices = _add_run_options(parser)
    devices.add_argument(
        "--rate-devices", metavar="R", type=int, default=1, help="R of them share the rates"
    )
    add_recipe_options(parser, MultiRateRecipe)


def _add_from(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--from", dest="source", metavar="RUN|MODEL", type=parse_path, help=text)


def _add_run_options(parser: argparse.ArgumentParser) -> Any:
    """Add what train and posttrain share, beside the recipe; return the group of devices."""
    images = parser.add_mutually_exclusive_group(required=True)
    images.add_argument(
        "--data",
        metavar="DIR|FILE",
        type=parse_path,
        help="images, in folders of any depth, or a file of `jvrc pack`",
    )
    images.add_argument(
        "--tfds", metavar="NAME[:SPLIT]", help="a prepared data set of TensorFlow Datasets"
    )
    parser.add_argument(
        "--tfds-dir", metavar="DIR", type=parse_path, help="the folder in which TFDS prepared it"
    )
    parser.add_argument(
        "-o", "--output", metavar="RUN", type=parse_path, required=True, help="run folder"
    )
    parser.add_argument("--resume", action="store_true", help="continue the run in RUN")
    parser.add_argument(
        "--pause-after", metavar="T", type=float, help="end after T minutes, to --resume later"
    )
    parser.add_argument(
        "--keep-optimizer",
        action="store_true",
        help="with --from RUN: take over its optimiser's state, and parameters before averaging",
    )
    devices = parser.add_argument_group("devices", "default: all that JAX sees share the batch")
    devices.add_argument(
        "--distributed", action="store_true", help="one of several processes (a TPU pod's hosts)"
    )
    devices.add_argument(
        "--host-crops",
        action="store_true",
        help="leave a packed file's tiles in the host's memory, even if they fit on each device",
    )
    return devices


def _check_source(args: argparse.Namespace) -> None:
    if args.source and args.resume:
        raise UsageError("--from begins a new run, --resume continues one: pass one of them")
    if args.keep_optimizer and not args.source:
        raise UsageError("--keep-optimizer needs --from, the run that has the optimiser's state")


def _run_train(args: argparse.Namespace) -> None:
    start_up = StartUp()
    _check_source(args)
    recipe = chosen_recipe(args, SingleRateRecipe)
    if args.transforms_from and args.keep_optimizer:
        raise UsageError(
            "--keep-optimizer: goes on with the transforms of --from; leave out --transforms-from"
        )
    if args.transforms_from and not args.source:
        raise UsageError("--transforms-from needs --from, the model that gets the transforms")
    load_training(distributed=args.distributed)
    start_up.lap("importing")
    from jvrc.training.run import run_folder
    from jvrc.training.single_rate import SingleRate

    run_folder.check_run(args.output, recipe, args.resume)  # before images are read
    images, init = images_of(args), None
    if args.source:
        init, described = _warm_start(args, recipe, images)
        recipe = replace(recipe, warm_start=described)
    _train(args, start_up, SingleRate(recipe), images, init)


def _warm_start(args: argparse.Namespace, recipe: SingleRateRecipe, images: Any) -> tuple[Any, str]:
    """Return the parameters that --from and --transforms-from name, and a line for the record."""
    from jvrc.training import single_rate, warm_start
    from jvrc.training.data import datasets

    def crops() -> Any:
        return single_rate.calibration_crops(recipe, datasets.ImageCache(images.train))

    config = recipe.config()
    source = read_source(args.source)
    params, described = warm_start.params_from(source, config, crops, seed=recipe.seed)
    if args.transforms_from:
        other = read_source(args.transforms_from)
        transforms, named = warm_start.transforms_from(other, config)
        params, described = params | transforms, f"{described}, transforms of {named}"
    return params, described


def _run_posttrain(args: argparse.Namespace) -> None:
    start_up = StartUp()
    _check_source(args)
    recipe, init = chosen_recipe(args, MultiRateRecipe), None
    if not args.source and not args.resume:
        raise UsageError("--from must name the run or weights file to post-train; got none")
    load_training(distributed=args.distributed)
    start_up.lap("importing")
    from jvrc.training.multi_rate import MultiRate
    from jvrc.training.run import run_folder

    if args.source:
        config, init, described = read_source(args.source)
        recipe = recipe.of_model(config, described)
    run_folder.check_run(args.output, recipe, args.resume)  # before images are read
    method, images = MultiRate(recipe), images_of(args)
    _train(args, start_up, method, images, init, rate_devices=args.rate_devices)


def _train(
    args: argparse.Namespace,
    start_up: StartUp,
    method: Any,
    images: Any,
    init: Any,
    *,
    rate_devices: int = 1,
) -> None:
    """Train, freeze the result, and print it and the command of the recipe's next stage.

    Raises:
      SystemExit: 130 after SIGINT, 143 after SIGTERM; the run can be resumed.
    """
    from jvrc.training import loop
    from jvrc.training.run import parallel, run_folder, stopping

    try:
        run = loop.train(
            method,
            images,
            args.output,
            resume=args.resume,
            init=init,
            optimizer_of=args.source if args.keep_optimizer else None,
            pause_after=args.pause_after,
            on_device=False if args.host_crops else None,
            mesh=parallel.make_mesh(rate_devices),
            start_up=start_up,
        )
    except stopping.Stopped as stop:
        print_skipped(images)
        resuming = resume_command(args, method.recipe)
        print(f"jvrc: {stop}, checkpoint saved; resume with: {resuming}", file=sys.stderr)
        raise SystemExit(128 + stop.signal) from None
    if not parallel.is_first_process():
        return
    write_frozen(run, args.output / RUN_WEIGHTS, {}, images)
    print_skipped(images)
    following = next_command(args) if run_folder.is_finished(args.output) else None
    if following:
        print(f"next stage: {following}")
