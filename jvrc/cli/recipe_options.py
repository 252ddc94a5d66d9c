"""Recipes on the command line: one option for each field, and --recipe with its stages."""

import argparse
import shlex
from dataclasses import Field, fields, replace
from typing import Any

from jvrc.cli.common import parse_numbers
from jvrc.cli.messages import UsageError
from jvrc.frozen import zoo
from jvrc.frozen.header import read_header
from jvrc.model.config import config_of
from jvrc.training.recipe import files
from jvrc.training.recipe.schema import Recipe, model_fields

_METAVARS = {int: "N", float: "X"}
_MODEL_FIELDS = ("model", "n", "m", "sizes", "log_scale")


def add_recipe_options(parser: argparse.ArgumentParser, kind: type[Recipe]) -> None:
    """Add --recipe, --stage and an option for each field of a kind of recipe."""
    shipped = ", ".join(files.shipped_recipes())
    parser.add_argument(
        "--recipe",
        metavar="NAME|FILE",
        help=f"a recipe of jvrc ({shipped}), a TOML file, or the recipe.json of a run",
    )
    parser.add_argument(
        "--stage", metavar="NAME|NUMBER", help="a stage of --recipe; default: the first"
    )
    group = parser.add_argument_group("recipe", "each option replaces a value of --recipe")
    for field in _options(kind):
        _add_option(group, field)


def chosen_recipe(args: argparse.Namespace, kind: type[Recipe]) -> Recipe:
    """Return the recipe that the arguments ask for.

    Its values come from --recipe, or from the run to resume, or are defaults, with the sizes of the
    model to begin from; options replace them.

    Raises:
      ValueError: no such recipe or stage, or one of another command.
    """
    recipe = _base_recipe(args, kind)
    given = {f.name: getattr(args, f.name) for f in _options(kind)}
    given = {name: value for name, value in given.items() if value is not None}
    if "sizes" in given:
        given["sizes"] = recipe.sizes | given["sizes"]
    return replace(recipe, **given)


def first_recipe(name: str, kind: type[Recipe]) -> Recipe:
    """Return the first stage of a recipe; ValueError if there is none, or it is of another kind."""
    path = files.recipe_path(name)
    stage = files.read_stages(path)[0]
    _check_kind(f"{path}, stage {stage.name}", stage.recipe, kind, f"--recipe {name}")
    return stage.recipe


def next_command(args: argparse.Namespace) -> str | None:
    """Return the command that runs the stage after the chosen one; None if there is none."""
    if not args.recipe:
        return None
    path = files.recipe_path(args.recipe)
    stages = files.read_stages(path)
    following = stages[files.stage_index(path, stages, args.stage) + 1 :]
    if not following:
        return None
    stage = following[0]
    command = ["jvrc", stage.recipe.command, "--recipe", args.recipe, "--stage", stage.name]
    command += _data_options(args)
    text = shlex.join([*command, "--from", str(args.output)])
    if stage.transforms_from:
        text += f" --transforms-from RUN ({stage.transforms_from})"
    return f"{text} -o NEW"


def resume_command(args: argparse.Namespace, recipe: Recipe) -> str:
    """Return the command that continues the run of args."""
    command = ["jvrc", recipe.command, *_data_options(args), "-o", str(args.output), "--resume"]
    if getattr(args, "rate_devices", 1) > 1:
        command += ["--rate-devices", str(args.rate_devices)]
    command += ["--distributed"] if args.distributed else []
    command += ["--host-crops"] if args.host_crops else []
    return shlex.join(command)


def _data_options(args: argparse.Namespace) -> list[str]:
    """Return the options of args that name the images."""
    if not args.tfds:
        return ["--data", str(args.data)]
    return ["--tfds", args.tfds, *(["--tfds-dir", str(args.tfds_dir)] if args.tfds_dir else [])]


def _base_recipe(args: argparse.Namespace, kind: type[Recipe]) -> Recipe:
    if args.stage and not args.recipe:
        raise UsageError("--stage chooses a stage of --recipe: pass both")
    saved = args.output / files.RECIPE_FILE
    resumed = files.read_recipe(saved) if args.resume and saved.exists() else None
    if resumed:
        _check_kind(f"{saved}", resumed, kind, "--resume")
    if not args.recipe:
        return resumed or kind(**_fields_of_source(args, kind))
    path = files.recipe_path(args.recipe)
    stages = files.read_stages(path)
    stage = stages[files.stage_index(path, stages, args.stage)]
    options = shlex.join(["--recipe", args.recipe, "--stage", stage.name])
    _check_kind(f"{path}, stage {stage.name}", stage.recipe, kind, options)
    if not resumed:
        return stage.recipe
    known = ("warm_start", *kind.of_model_fields)  # when the run began
    return replace(stage.recipe, **{name: getattr(resumed, name) for name in known})


def _fields_of_source(args: argparse.Namespace, kind: type[Recipe]) -> dict[str, Any]:
    """Return architecture and sizes of the model after --from, as far as options leave them."""
    if not args.source or kind.of_model_fields:
        return {}
    saved = args.source / files.RECIPE_FILE
    path = zoo.shipped_file(str(args.source)) or args.source
    if saved.is_file():
        run = files.read_recipe(saved)
        found = {name: getattr(run, name) for name in _MODEL_FIELDS}
    elif path.is_file():
        config = config_of(**read_header(path)["config"])
        found = model_fields(config) | {"log_scale": config.log_scale}
    else:
        return {}  # reading the model says what is wrong
    same = args.model in (None, found["model"])
    return found if same else found | {"model": args.model, "sizes": {}}


def _check_kind(where: str, recipe: Recipe, kind: type[Recipe], options: str) -> None:
    if not isinstance(recipe, kind):
        raise ValueError(
            f"{where}: a recipe of `jvrc {recipe.command}`, not of `jvrc {kind.command}`: "
            f"run `jvrc {recipe.command} {options}`"
        )


def _options(kind: type[Recipe]) -> list[Field]:
    """Return the fields that the command line sets."""
    return [f for f in fields(kind) if f.metadata["help"] and f.name not in kind.of_model_fields]


def _add_option(group: Any, field: Field) -> None:
    flag = field.metadata["flag"] or field.name.replace("_", "-")
    default = field.metadata["default"]
    details: dict[str, Any] = {"type": type(default), "metavar": None}
    if field.metadata["choices"]:
        details["choices"] = field.metadata["choices"]
    elif isinstance(default, bool):
        details |= {"type": _yes_or_no, "metavar": "yes|no"}
    elif isinstance(default, tuple):
        details |= {"type": parse_numbers, "metavar": "X,X,…"}
    elif isinstance(default, dict):
        details |= {"type": _named_numbers, "metavar": "NAME=N,…"}
    else:
        details["metavar"] = _METAVARS[type(default)]
    text = f"{field.metadata['help']} (default: {_shown(default)})"
    group.add_argument(f"--{flag}", dest=field.name, help=text, **details)


def _shown(value: Any) -> str:
    """Return a default as the command line takes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ",".join(f"{v:.4g}" for v in value) or "none"
    if isinstance(value, dict):
        return ",".join(f"{k}={v}" for k, v in value.items()) or "those of its config"
    return str(value)


def _yes_or_no(text: str) -> bool:
    known = {"yes": True, "no": False}
    if text not in known:
        raise argparse.ArgumentTypeError(f"must be yes or no; got {text!r}")
    return known[text]


def _named_numbers(text: str) -> dict[str, int]:
    try:
        pairs = [part.split("=") for part in text.split(",")]
        return {name.strip(): int(number) for name, number in pairs}
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"must be NAME=NUMBER with commas between; got {text!r}"
        ) from error
