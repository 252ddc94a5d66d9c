"""The training loop: one jitted step with donated state, validation, checkpoints, a metrics file.

A run is a folder: recipe.json, metrics.jsonl, checkpoints/STEP/model and optimizer (only `--resume`
needs the latter). What a step does depends on the recipe and the step's number alone, so an
interrupted run that is resumed ends at the same parameters.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax import Array
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tqdm import tqdm

from jvrc.model.config import Config
from jvrc.model.modules import init_params
from jvrc.training import data, klt_init, multi_rate, objectives, single_rate
from jvrc.training.checkpoint import Checkpoints
from jvrc.training.log import MetricsFile, means
from jvrc.training.recipe import PostRecipe, Recipe, load_recipe
from jvrc.training.state import State, init_state

VALIDATION_QSTEPS = (1.5, 3.0, 6.0, 12.0)
CALIBRATION_CROPS = 128
LOG_EVERY = 50
DIVERGED = 5.0  # times the lowest loss of the run
_MODEL, _OPTIMIZER = "model", "optimizer"  # parts of a checkpoint


class Run(NamedTuple):
    """A finished or interrupted run, ready to be frozen."""

    config: Config
    params: dict
    recipe: Recipe | PostRecipe
    step: int


def make_mesh(rate_devices: int = 1) -> Mesh:
    """All devices, of all processes, as data x rate."""
    devices = np.array(jax.devices())
    if rate_devices < 1 or devices.size % rate_devices:
        raise ValueError(
            f"rate_devices must divide the number of devices, {devices.size}; got {rate_devices}"
        )
    return Mesh(devices.reshape(-1, rate_devices), ("data", "rate"))


def is_first_process() -> bool:
    """Whether this process writes what only one may write."""
    return jax.process_index() == 0


def calibration_crops(recipe: Recipe, pictures: data.Pictures) -> np.ndarray:
    """Random crops [n,crop,crop,3] in [0,1] that a start is fitted to."""
    shape = {"size": recipe.crop, "count": CALIBRATION_CROPS}
    return data.batch(pictures, recipe.seed, 2**31, **shape) / np.float32(255)


def start_params(recipe: Recipe, pictures: data.Pictures) -> dict:
    """Parameters at step 0, as the recipe's `start` says."""
    key, config = jax.random.key(recipe.seed), recipe.config()
    if recipe.start == "random":
        return init_params(key, config)
    return klt_init.klt_params(key, config, calibration_crops(recipe, pictures))


def make_step(recipe: Recipe | PostRecipe, mesh: Mesh) -> Callable[[State, Array], tuple]:
    """The jitted update: (state, uint8 [B,crop,crop,3]) -> (state, what to report)."""
    if isinstance(recipe, PostRecipe):
        step = multi_rate.make_step(recipe, mesh)
    else:
        step = single_rate.make_step(recipe, mesh)
    everywhere = NamedSharding(mesh, PartitionSpec())
    return jax.jit(step, donate_argnums=0, out_shardings=everywhere)


def validation_qsteps(recipe: Recipe | PostRecipe) -> tuple[float, ...]:
    """The usual ones; for a post-training on fewer rates, and none between them, those."""
    if not isinstance(recipe, PostRecipe) or recipe.between:
        return VALIDATION_QSTEPS
    return recipe.qsteps if len(recipe.qsteps) < len(VALIDATION_QSTEPS) else VALIDATION_QSTEPS


def make_validation(
    config: Config, crops: np.ndarray, qsteps: tuple[float, ...] = VALIDATION_QSTEPS
) -> Callable[[dict], dict]:
    """params -> loss, and bpp and PSNR (dB) by estimated bits of rounded latents, per qstep."""
    groups = np.array_split(crops, max(1, len(crops) // 8))
    evaluate = jax.jit(lambda p, x, q: objectives.losses(config, p, x / 255.0, q, None))

    def validate(params: dict) -> dict:
        report: dict = {"qstep": list(qsteps), "bpp": [], "psnr": []}
        total = []
        for qstep in qsteps:
            parts = [evaluate(params, g, np.full(len(g), qstep, np.float32)) for g in groups]
            rd, bpp, mse = (np.concatenate([np.asarray(p[i]) for p in parts]) for i in range(3))
            total.append(float(objectives.balanced_mean(rd, qstep)))
            report["bpp"].append(round(float(bpp.mean()), 4))
            report["psnr"].append(round(float(-10 * np.log10(mse).mean()), 3))
        return {"loss": round(float(np.mean(total)), 5)} | report

    return validate


def train(
    recipe: Recipe | PostRecipe,
    photographs: data.Photographs,
    run: str | Path,
    *,
    resume: bool = False,
    init: dict | None = None,
    stop_after: int | None = None,
    minutes: float | None = None,
    validate_every: int = 1000,
    save_minutes: float = 5.0,
    mesh: Mesh | None = None,
) -> Run:
    """Trains `recipe` on photographs; everything goes into the folder `run`.

    init: parameters to begin with instead of the recipe's start; post-training needs them.
    stop_after: end (with a checkpoint) once this many steps of the recipe are done. minutes: end
    likewise once it has taken so long, reading and compiling included. mesh: as `make_mesh` gives
    it; None: all devices share the batch.

    Raises:
      ValueError: `run` already holds a run and resume is False, or holds another one; post-training
        without init; the mesh does not divide the batch.
      FloatingPointError: the loss is no longer finite, or diverged; the last checkpoint stays.
    """
    run, mesh, begun = Path(run), mesh or make_mesh(), time.monotonic()
    if stop_after is not None and stop_after <= recipe.begin:
        raise ValueError(f"stop_after must be at least {recipe.begin + 1}, got {stop_after}")
    if minutes is not None and not minutes > 0:
        raise ValueError(f"minutes must be above 0, got {minutes}")
    check_run(run, recipe, resume)
    if jax.process_count() > 1:  # all have looked before the first one writes
        multihost_utils.sync_global_devices("jvrc: run checked")
    if isinstance(recipe, PostRecipe) and init is None and not resume:
        raise ValueError("init must hold the parameters that post-training starts from; got None")
    if recipe.begin and init is None and not resume:
        raise ValueError(f"begin must be 0 without init (--from), got {recipe.begin}")
    step = make_step(recipe, mesh)
    everywhere = NamedSharding(mesh, PartitionSpec())
    pictures, crops = data.Pictures(photographs.train), data.centres(photographs.held)
    validate = make_validation(recipe.config(), crops, validation_qsteps(recipe))
    with contextlib.closing(Checkpoints(run)) as checkpoints:
        if resume:
            like = _parts(_abstract_state(recipe))
            state = _joined(checkpoints.restore(like, everywhere))
        else:
            params = init or start_params(recipe, pictures)
            state = _replicated(first_state(recipe, params), everywhere)
            if is_first_process():
                recipe.save(run / "recipe.json")
            checkpoints.save(recipe.begin, _parts(state))
        last = min(recipe.steps, stop_after or recipe.steps)
        deadline = begun + 60 * minutes if minutes else np.inf
        pace = _Pace(last, deadline, validate_every, 60 * save_minutes)
        batches = _batches(recipe, pictures, mesh, int(state.step), last)
        log = MetricsFile(run / "metrics.jsonl", int(state.step))
        with contextlib.closing(batches):
            state = _loop(recipe, step, state, batches, validate, checkpoints, log, pace)
    # its own copy, so that one process alone can go on with it, as freezing does
    params = jax.tree.map(lambda a: a.addressable_data(0), _model_params(state.ema))
    return Run(recipe.config(), params, recipe, int(state.step))


def load_run(run: str | Path) -> Run:
    """The newest model of a run folder; what only resuming needs is not read.

    Raises:
      ValueError: no run, or one without a checkpoint.
    """
    run = Path(run)
    if not (run / "recipe.json").is_file():
        raise ValueError(f"run must be a folder that `jvrc train` wrote; got {str(run)!r}")
    recipe = load_recipe(run / "recipe.json")
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])  # not where it was saved
    with contextlib.closing(Checkpoints(run)) as checkpoints:
        like = {_MODEL: _parts(_abstract_state(recipe))[_MODEL]}
        found = checkpoints.restore(like, here)[_MODEL]
    return Run(recipe.config(), _model_params(found["ema"]), recipe, int(found["step"]))


def check_run(run: Path, recipe: Recipe | PostRecipe, resume: bool) -> None:
    """ValueError unless `run` can be written: a new folder, or one of this recipe to resume."""
    path = run / "recipe.json"
    if path.exists() and not resume:
        raise ValueError(f"run must be a new folder; {run} holds a run: pass --resume to go on")
    if resume and not path.exists():
        raise ValueError(f"run must be a folder that `jvrc train` wrote to resume; {run} is none")
    if resume and load_recipe(path) != recipe:
        raise ValueError(f"{path} differs from the recipe given; resume with the same, or none")


def _replicated(tree: Any, everywhere: NamedSharding) -> Any:
    """The same values on all devices, of all processes, each of which has them."""
    host = jax.tree.map(np.asarray, tree)
    return jax.jit(lambda t: t, out_shardings=everywhere)(host)


def first_state(recipe: Recipe | PostRecipe, params: dict) -> State:
    """The state before the first step, with what the recipe adds to the model's parameters."""
    if isinstance(recipe, PostRecipe):
        params = multi_rate.with_learned_steps(recipe, params)
    return init_state(recipe, params)


def _model_params(params: dict) -> dict:
    """Without what belongs to the run alone."""
    return {name: value for name, value in params.items() if name != multi_rate.LOG_QSTEP}


def _abstract_state(recipe: Recipe | PostRecipe) -> State:
    """Shapes and dtypes of the state, without computing anything."""
    config = recipe.config()
    return jax.eval_shape(
        lambda key: first_state(recipe, init_params(key, config)), jax.random.key(0)
    )


def _parts(state: State) -> dict[str, dict]:
    """What is shipped and begun from, a third or less, and what only resuming needs."""
    model = {"step": state.step, "ema": state.ema}
    return {_MODEL: model, _OPTIMIZER: {"params": state.params, "opt_state": state.opt_state}}


def _joined(parts: dict[str, dict]) -> State:
    return State(**parts[_MODEL], **parts[_OPTIMIZER])


def _batches(
    recipe: Recipe | PostRecipe, pictures: data.Pictures, mesh: Mesh, first: int, last: int
) -> Iterator[Array]:
    """Batches first … last-1 on the devices; every process makes all and keeps its own part."""
    shape = {"size": recipe.crop, "count": recipe.batch}
    spread = NamedSharding(mesh, PartitionSpec("data"))
    made = data.prefetch(pictures, recipe.seed, first, last, **shape)
    with contextlib.closing(made):
        for images in made:
            yield jax.make_array_from_callback(images.shape, spread, images.__getitem__)


class _Pace(NamedTuple):
    """When to end, to validate and to save."""

    last: int
    deadline: float  # of time.monotonic
    validate_every: int
    save_seconds: float


def _loop(
    recipe: Recipe | PostRecipe,
    step: Callable[[State, Array], tuple],
    state: State,
    batches: Iterator[Array],
    validate: Callable[[dict], dict],
    checkpoints: Checkpoints,
    log: MetricsFile,
    pace: _Pace,
) -> State:
    first, last = int(state.step), pace.last
    reports: list[dict] = []
    begun = saved = time.monotonic()
    waited, lowest, ending = 0.0, np.inf, False
    bar = tqdm(total=recipe.steps, initial=first, desc="training", unit="step")
    with bar:
        for i in range(first + 1, last + 1):
            before = time.monotonic()
            images = next(batches)
            waited += time.monotonic() - before
            state, report = step(state, images)
            reports.append(report)
            bar.update()
            ending = i == last or _agreed(time.monotonic() > pace.deadline, i)
            if i % LOG_EVERY == 0 or ending:
                mean = means(reports)
                _check_loss(mean["loss"], lowest, i)
                lowest = min(lowest, mean["loss"])
                elapsed = time.monotonic() - begun
                speed = {"steps_per_s": len(reports) / elapsed, "data_wait": waited / elapsed}
                log.write(i, **mean, **speed)
                bar.set_postfix({k: f"{np.nanmean(mean[k]):.3f}" for k in ("loss", "bpp", "psnr")})
                reports, begun, waited = [], time.monotonic(), 0.0
            if i % pace.validate_every == 0 or ending:
                log.write(i, validation=validate(_model_params(state.ema)))
            if ending or _agreed(time.monotonic() - saved > pace.save_seconds, i):
                _check_loss(float(optax.tree.norm(state.params)), np.inf, i)
                checkpoints.save(i, _parts(state))
                saved = time.monotonic()
            if ending:
                break
    return state


def _agreed(due: bool, step: int) -> bool:
    """What the clock says; several processes go by that of the first, asked seldom."""
    if jax.process_count() == 1:
        return due
    asked = step % LOG_EVERY == 0
    return asked and bool(multihost_utils.broadcast_one_to_all(np.array(due)))


def _check_loss(value: float, lowest: float, step: int) -> None:
    if not np.isfinite(value) or value > DIVERGED * lowest:
        raise FloatingPointError(
            f"training diverged near step {step}; the last checkpoint is sound: start a new run "
            "from it (--from RUN) with a lower --learning-rate"
        )
