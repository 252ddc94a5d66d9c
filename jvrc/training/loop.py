"""Training as a whole: from a method, images and a folder to a trained run.

What a training step does depends on the recipe and the number of the step alone (and, in a schedule
by the clock, on the fraction of it that is done), so a run that is interrupted and resumed ends at
the same parameters. `run_folder` describes what is written, `stepping` has the loop.
"""

import contextlib
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh

from jvrc.io.files import alone_in
from jvrc.training import feeding
from jvrc.training.data import batches, datasets
from jvrc.training.data.tile_file import Tiles
from jvrc.training.method import Method
from jvrc.training.recipe.files import RECIPE_FILE, save_recipe
from jvrc.training.recipe.schema import Recipe
from jvrc.training.run import parallel, run_folder
from jvrc.training.run.checkpoint import Checkpoints
from jvrc.training.run.clock import Cost, StartUp
from jvrc.training.run.log import MetricsFile
from jvrc.training.run.run_folder import METRICS_FILE, Run
from jvrc.training.run.stopping import Stopped, StopRequest
from jvrc.training.stepping import Limits, Loop
from jvrc.training.update.state import State, init_state
from jvrc.training.validation.held_out import Validation, make_validation, unnatural_tiles

_MOST = 2**31 - 1


def train(
    method: Method,
    images: datasets.Dataset,
    folder: str | Path,
    *,
    resume: bool = False,
    init: dict | None = None,
    optimizer_of: str | Path | None = None,
    stop_after: int | None = None,
    pause_after: float | None = None,
    validate_every: int = 1000,
    save_minutes: float = 5.0,
    on_device: bool | None = None,
    mesh: Mesh | None = None,
    start_up: StartUp | None = None,
) -> Run:
    """Train as the method's recipe says, and write everything into the run's folder.

    Args:
      method: `SingleRate(recipe)` or `MultiRate(recipe)`.
      images: to train on and, held-out, to validate with.
      folder: of the run; a new one, unless `resume`.
      resume: continue the run of this recipe that the folder holds.
      init: parameters to begin with instead of new ones; post-training needs them.
      optimizer_of: a run whose parameters and optimiser's state replace those of the beginning.
      stop_after: end, with a checkpoint, once so many training steps are done.
      pause_after: end likewise after so many minutes, reading images and compiling included.
      validate_every: training steps between two validations, more if they take too long.
      save_minutes: time between two checkpoints, more likewise.
      on_device: keep the tiles of a training file in the memory of every device; None: if they fit.
      mesh: of `parallel.make_mesh`; None: all devices share the batch.
      start_up: what the command took so far; a schedule by the clock begins with it.

    Raises:
      ValueError: the folder already holds a run and resume is False, or holds another one; no init
        where the recipe needs it; the mesh does not divide the batch or the rates; crops are larger
        than the tiles of a training file.
      FloatingPointError: the loss is not finite or diverged; the last checkpoint stays.
      Stopped: SIGINT (Ctrl-C) or SIGTERM came; a checkpoint of the last training step is saved.
    """
    start_up, folder, mesh = start_up or StartUp(), Path(folder), mesh or parallel.make_mesh()
    recipe = method.recipe
    _check_limits(stop_after, pause_after)
    run_folder.check_run(folder, recipe, resume)
    parallel.wait_for_all("run checked")  # all processes have looked before the first one writes
    if not resume:
        recipe.check_beginning(warm=init is not None)
    feed = _feed(method, images, mesh, on_device)
    images = _read(images, recipe)
    validate = _validation(method, images, mesh, feed)
    start_up.lap("images")
    with (
        _alone_in(folder),
        contextlib.closing(Checkpoints(folder)) as checkpoints,
        contextlib.closing(feed),
    ):
        saving, whole = Cost(), parallel.everywhere(mesh)
        if resume:
            state = run_folder.restore_state(checkpoints, recipe, whole)
        else:
            state = _state_of_new_run(method, mesh, images.train, init, optimizer_of)
            with saving.counted():
                _begin_run(folder, recipe, checkpoints, state)
        start_up.lap("parameters")
        last = min(stop_after or _MOST, _last_step(recipe, state))
        pause = start_up.begun + (60 * pause_after if pause_after else math.inf)
        limits = Limits(last, pause, validate_every, save_seconds=60 * save_minutes)
        feed.begin(images, int(state.step), last)
        log = MetricsFile(folder / METRICS_FILE, int(state.step))
        loop = Loop(recipe, feed, validate, checkpoints, log, limits, start_up, whole, saving)
        with StopRequest() as request:
            state = loop.run(state, request)
    if request.signal is not None:
        raise Stopped(int(state.step), request.signal)
    # a copy that one process alone can use, as freezing does
    return run_folder.run_of(recipe, parallel.local_copy(state.ema), int(state.step))


def _alone_in(folder: Path) -> contextlib.AbstractContextManager:
    """Keep other processes from training in the folder, but for those of one distributed run."""
    if jax.process_count() > 1:
        return contextlib.nullcontext()
    folder.mkdir(parents=True, exist_ok=True)
    return alone_in(folder)


def _feed(
    method: Method, images: datasets.Dataset, mesh: Mesh, on_device: bool | None
) -> feeding.HostFeed | feeding.DeviceFeed:
    """Return the feed of a run; its program compiles from now on."""
    recipe, tiles = method.recipe, images.train
    if isinstance(tiles, Tiles) and recipe.crop > tiles.array.shape[1]:
        side = tiles.array.shape[1]
        raise ValueError(f"crop must be at most {side}, the side of the tiles; got {recipe.crop}")
    state = run_folder.abstract_state(recipe)
    if isinstance(tiles, Tiles) and (
        feeding.fits_on_device(tiles) if on_device is None else on_device
    ):
        return feeding.DeviceFeed(recipe, method.make_step(mesh), mesh, state, tiles)
    return feeding.HostFeed(recipe, jit_step(method, mesh), mesh, state)


def _read(images: datasets.Dataset, recipe: Recipe) -> datasets.Dataset:
    """Return the images with those to train on in memory, unless they are tiles of a file."""
    if isinstance(images.train, Tiles):
        return images
    images = images._replace(train=datasets.ImageCache(images.train))
    if parallel.is_first_process():
        sides = images.train.sides()
        batches.announce_small(sides, recipe.crop, parts="crops", option="--crop")
    return images


def _validation(
    method: Method, images: datasets.Dataset, mesh: Mesh, feed: feeding.Feed
) -> Validation:
    """Return the function that validates parameters; it compiles once the training step has."""
    recipe = method.recipe
    params = run_folder.model_params(recipe, run_folder.abstract_state(recipe).ema)
    return make_validation(
        recipe.config(),
        batches.centres(images.held_out),
        method.validation_qsteps(),
        unnatural=unnatural_tiles(images.held_out, size=min(256, recipe.crop)),
        compiled_for=feeding.abstract(params, mesh),
        after=feed.compiled,
    )


def _last_step(recipe: Recipe, state: State) -> int:
    """Return the training step that a run ends at, if it does not by the clock."""
    if not recipe.minutes:
        return recipe.steps
    return int(state.step) if float(state.progress) >= 1 else _MOST


def jit_step(method: Method, mesh: Mesh) -> Callable[[State, Array], tuple]:
    """Return the method's training step, jitted; it takes over the buffers of the state."""
    step = method.make_step(mesh)
    return jax.jit(step, donate_argnums=0, out_shardings=parallel.everywhere(mesh))


def first_state(
    method: Method,
    mesh: Mesh,
    images: Sequence[np.ndarray] = (),
    init: dict | None = None,
) -> State:
    """Return the state before the first training step, whole on every device of the mesh.

    images: what parameters are initialised from, if `init` does not give them.
    """
    params = jax.tree.map(np.asarray, method.first_params(images, init))
    begin = partial(init_state, method.recipe)  # in one program: as many small ones compile longer
    return jax.jit(begin, out_shardings=parallel.everywhere(mesh))(params)


def _state_of_new_run(
    method: Method,
    mesh: Mesh,
    images: Sequence[np.ndarray],
    init: dict | None,
    optimizer_of: str | Path | None,
) -> State:
    """Return the state before the first training step; arguments as in `train`."""
    state = first_state(method, mesh, images, init)
    if not optimizer_of:
        return state
    whole = parallel.everywhere(mesh)
    return run_folder.with_optimizer_of(optimizer_of, method.recipe, state, whole)


def _begin_run(folder: Path, recipe: Recipe, checkpoints: Checkpoints, state: State) -> None:
    """Write the recipe and the first checkpoint of a run."""
    if parallel.is_first_process():
        save_recipe(folder / RECIPE_FILE, recipe)
    run_folder.save_state(checkpoints, state)


def _check_limits(stop_after: int | None, pause_after: float | None) -> None:
    if stop_after is not None and stop_after < 1:
        raise ValueError(f"stop_after must be at least 1, got {stop_after}")
    if pause_after is not None and not pause_after > 0:
        raise ValueError(f"pause_after must be above 0 minutes, got {pause_after}")
