"""Reading and writing recipes: TOML files of stages, and the recipe.json of a run.

A TOML recipe trains a model in stages, one run each. It has a `[[stage]]` table for each, in order:

  name             what --stage selects it by
  command          "train" or "posttrain", the command that runs it
  transforms_from  optional: what --transforms-from must name, in words
  any fields of SingleRateRecipe (train) or of MultiRateRecipe (posttrain)

Fields above the first table belong to all stages. A run folder has one recipe.json, written by
`save_recipe`; runs and weights files of earlier versions, with other names, are read as well.
"""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from jvrc.io.files import write_bytes
from jvrc.training.recipe.schema import MultiRateRecipe, Recipe, SingleRateRecipe

RECIPE_FILE = "recipe.json"  # in a run's folder
_FOLDER = Path(__file__).parents[2] / "recipes"
_KINDS = {kind.command: kind for kind in (SingleRateRecipe, MultiRateRecipe)}
_STAGE_KEYS = ("name", "command", "transforms_from")

# Names and values of version 0.1.0, as they stand in recipe.json and in headers of weights files.
_FORMER_NAMES = {
    "aggregator": "weighting",
    "between": "draw_qsteps",
    "ema": "ema_decay",
    "final_rate": "final_lr_fraction",
    "floor": "weight_floor",
    "init": "warm_start",
    "offsets": "train_offsets",
    "scale": "objective_scale",
    "start": "initialisation",
    "transforms": "train_transforms",
    "z_step": "train_z_qstep",
}
_DROPPED = ("begin", "first_step")  # names of former fields
# Fields that came later, as runs behaved without them.
_LATER_FIELDS = {"unnatural_share": 0.0}
_FORMER_VALUES = {("initialisation", "pyramid"): "klt"}


class Stage(NamedTuple):
    """One run of a recipe that has several."""

    name: str
    recipe: Recipe
    transforms_from: str = ""  # what --transforms-from must name, in words


def shipped_recipes() -> dict[str, Path]:
    """Return the recipes of the package: name -> TOML file."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.toml"))}


def recipe_path(name: str | Path) -> Path:
    """Return the file of a shipped recipe by its name, or the file itself.

    Raises:
      ValueError: neither a shipped name nor a file.
    """
    shipped = shipped_recipes()
    path = shipped.get(str(name), Path(name))
    if not path.is_file():
        raise ValueError(
            f"recipe must be a shipped one ({', '.join(shipped)}) or a file; got {str(name)!r}"
        )
    return path


def read_stages(path: Path) -> list[Stage]:
    """Read the stages of a TOML recipe, in order; a recipe.json is a single stage.

    Raises:
      ValueError: no TOML or JSON, no stage, an unknown field or a value that breaks its rule.
    """
    if path.suffix == ".json":
        return [Stage("1", read_recipe(path))]
    import tomllib  # here, for a quick start of the command line

    try:
        common = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not a recipe: {error}") from error
    tables = common.pop("stage", None)
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ValueError(f"{path}: not a recipe: it must have [[stage]] tables")
    return [_stage(f"{path}, stage {i}", common | table) for i, table in enumerate(tables, 1)]


def stage_index(path: Path, stages: list[Stage], which: str | None) -> int:
    """Return the index of a stage by its name or its number from 1; None: the first.

    Raises:
      ValueError: there is no such stage; the message lists them.
    """
    if which is None:
        return 0
    names = [stage.name for stage in stages]
    if which in names:
        return names.index(which)
    if which.isdecimal() and 1 <= int(which) <= len(stages):
        return int(which) - 1
    raise ValueError(
        f"{path}: stage must be one of {', '.join(names)}, or a number up to {len(stages)}; "
        f"got {which!r}"
    )


def read_recipe(path: Path) -> Recipe:
    """Read a recipe.json, of this version or an earlier one.

    Raises:
      ValueError: no JSON object, an unknown field or a value that breaks its rule.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not a recipe: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: not a recipe: it must be a JSON object")
    values = _LATER_FIELDS | with_present_names(values)
    return _recipe(
        str(path), MultiRateRecipe if "weighting" in values else SingleRateRecipe, values
    )


def save_recipe(path: Path, recipe: Recipe) -> None:
    """Write a recipe.json; the file appears complete or not at all."""
    write_bytes(path, recipe.to_json().encode())


def with_present_names(values: dict[str, Any]) -> dict[str, Any]:
    """Return a saved recipe's fields, names and values of earlier versions replaced by today's."""
    renamed = {_FORMER_NAMES.get(name, name): value for name, value in values.items()}
    present = {name: value for name, value in renamed.items() if name not in _DROPPED}
    return {name: _present_value(name, value) for name, value in present.items()}


def _present_value(name: str, value: Any) -> Any:
    return _FORMER_VALUES.get((name, value), value) if isinstance(value, str) else value


def _stage(where: str, values: dict[str, Any]) -> Stage:
    own = {key: values.pop(key) for key in _STAGE_KEYS if key in values}
    command = own.pop("command", None)
    if command not in _KINDS:
        raise ValueError(f"{where}: command must be one of {', '.join(_KINDS)}; got {command!r}")
    if not all(isinstance(text, str) for text in own.values()) or "name" not in own:
        raise ValueError(f"{where}: needs a name; name and transforms_from must be text")
    return Stage(recipe=_recipe(where, _KINDS[command], values), **own)


def _recipe(where: str, kind: type[Recipe], values: dict[str, Any]) -> Recipe:
    unknown = set(values) - {f.name for f in fields(kind)}
    if unknown:
        raise ValueError(f"{where}: unknown recipe fields: {', '.join(sorted(unknown))}")
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
