"""A run's folder: recipe.json, metrics.jsonl, and checkpoints of the model and of the optimiser.

`checkpoints/STEP/model` holds the averaged parameters, all that freezing, post-training and a warm
start need; `checkpoints/STEP/optimizer` the rest of the state, about twice as much, for `--resume`.
"""

import contextlib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jvrc.model.config import Config
from jvrc.model.modules import init_params
from jvrc.runtime import devices
from jvrc.training.recipe.files import RECIPE_FILE, read_recipe
from jvrc.training.recipe.schema import Recipe
from jvrc.training.run import parallel
from jvrc.training.run.checkpoint import Checkpoints
from jvrc.training.run.log import read_metrics
from jvrc.training.update.settings import settings_of
from jvrc.training.update.state import State, init_state

METRICS_FILE = "metrics.jsonl"
_MODEL, _OPTIMIZER = "model", "optimizer"  # parts of a checkpoint


class Run(NamedTuple):
    """A finished or interrupted run, ready to be frozen."""

    config: Config
    params: dict
    recipe: Recipe
    step: int
    qstep_range: tuple[float, float]  # that it was trained for


def run_of(recipe: Recipe, params: dict, step: int) -> Run:
    """Return a run of the parameters after a training step, with those that only training has."""
    params = jax.tree.map(np.asarray, params)  # of no device
    qstep_range = recipe.qstep_range_of(params)
    return Run(recipe.config(), model_params(recipe, params), recipe, step, qstep_range)


def check_run(folder: Path, recipe: Recipe, resume: bool) -> None:
    """Check that a run can be written: to a new folder, or to one of this recipe to resume.

    Raises:
      ValueError: it cannot.
    """
    path = folder / RECIPE_FILE
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"run must be a folder; {folder} is a file")
    if path.exists() and not resume:
        raise ValueError(
            f"run must be a new folder; {folder} holds a run: pass --resume to continue it"
        )
    if resume and not path.exists():
        raise ValueError(
            f"run must be a folder that `jvrc train` wrote to resume; {folder} is none"
        )
    if resume and (saved := read_recipe(path)) != recipe:
        raise ValueError(
            f"{path} differs from the recipe given: {_differences(saved, recipe)}; resume with the "
            "same, or none"
        )


def _differences(saved: Recipe, given: Recipe) -> str:
    """Return the fields in which two recipes differ: "n 64, not 32"."""
    one, other = vars(saved), vars(given)
    names = [name for name in one.keys() | other.keys() if one.get(name) != other.get(name)]
    return ", ".join(f"{n} {one.get(n)}, not {other.get(n)}" for n in sorted(names))


def load_run(folder: str | Path) -> Run:
    """Return the newest model of a run; the state of its optimiser is not read.

    Raises:
      ValueError: no run, or one without a checkpoint.
    """
    folder = Path(folder)
    if not (folder / RECIPE_FILE).is_file():
        raise ValueError(f"run must be a folder that `jvrc train` wrote; got {str(folder)!r}")
    recipe = read_recipe(folder / RECIPE_FILE)
    here = jax.sharding.SingleDeviceSharding(devices.cpu())  # not where it was saved
    with contextlib.closing(Checkpoints(folder, read_only=True)) as checkpoints:
        like = {_MODEL: _parts(abstract_state(recipe))[_MODEL]}
        found = checkpoints.restore(like, here)[_MODEL]
    return run_of(recipe, found["ema"], int(found["step"]))


def is_finished(folder: str | Path) -> bool:
    """Return True if a run has come to the end of its schedule, by its metrics."""
    rows = read_metrics(Path(folder) / METRICS_FILE)
    return any(row.get("progress", 0) >= 1 for row in rows)


def save_state(checkpoints: Checkpoints, state: State) -> None:
    """Save a checkpoint under the number of training steps done."""
    checkpoints.save(int(state.step), _parts(state))


def restore_state(
    checkpoints: Checkpoints, recipe: Recipe, sharding: jax.sharding.Sharding
) -> State:
    """Return the newest state bit for bit; ValueError if there is none."""
    parts = checkpoints.restore(_parts(abstract_state(recipe)), sharding)
    settings = parallel.put(settings_of(recipe), sharding)
    return State(**parts[_MODEL], **parts[_OPTIMIZER], settings=settings)


def with_optimizer_of(
    folder: str | Path, recipe: Recipe, state: State, sharding: jax.sharding.Sharding
) -> State:
    """Return a state with the parameters and the optimiser's state of another run's newest one.

    recipe: of the state.

    Raises:
      ValueError: that run has another optimiser, other sizes or scales, trains other parts, or has
        no optimiser's state.
    """
    if not (Path(folder) / RECIPE_FILE).is_file():
        raise ValueError(f"--keep-optimizer needs --from RUN, a run's folder; got {str(folder)!r}")
    source = read_recipe(Path(folder) / RECIPE_FILE)
    for name in ("latent_scale", "hyper_scale"):
        found, wanted = getattr(source.config(), name), getattr(recipe.config(), name)
        if found != wanted:
            raise ValueError(
                f"--keep-optimizer needs parameters of the same {name}: {found:g} in {folder}, "
                f"{wanted:g} in the new run; go on without it"
            )
    if source.fixed_parts() != recipe.fixed_parts():
        fixed = [", ".join(r.fixed_parts()) or "none" for r in (source, recipe)]
        raise ValueError(
            f"--keep-optimizer needs a run that trains the same parts: {folder} leaves {fixed[0]} "
            f"as they are, the new run {fixed[1]}"
        )
    names = ("params", "opt_state", "norms")
    with contextlib.closing(Checkpoints(folder, read_only=True)) as checkpoints:
        try:
            found = checkpoints.restore({_OPTIMIZER: _parts(state)[_OPTIMIZER]}, sharding)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"--keep-optimizer needs a run of the same optimiser and sizes, and its whole "
                f"checkpoint; {folder}: {error}"
            ) from error
    return state._replace(**{name: found[_OPTIMIZER][name] for name in names})


def model_params(recipe: Recipe, params: dict) -> dict:
    """Return the parameters without those that only training has."""
    return {name: value for name, value in params.items() if name not in recipe.extra_params()}


def abstract_state(recipe: Recipe) -> State:
    """Return the shapes and dtypes of the state, without computing anything."""
    config = recipe.config()

    def state(key: jax.Array) -> State:
        extra = {k: jax.numpy.zeros(shape) for k, shape in recipe.extra_params().items()}
        return init_state(recipe, init_params(key, config) | extra)

    return jax.eval_shape(state, jax.random.key(0))


def _parts(state: State) -> dict[str, dict[str, Any]]:
    """Split a state into parameters (for freezing and warm starts) and the optimiser's part."""
    model = {"step": state.step, "ema": state.ema}
    others = state._asdict().items()
    rest = {name: value for name, value in others if name not in {*model, "settings"}}
    return {_MODEL: model, _OPTIMIZER: rest}
