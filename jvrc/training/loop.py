"""The training loop: one jitted training step with donated state, validation, checkpoints, metrics.

What a training step does depends on the recipe and the number of the step alone, so a run that is
interrupted and resumed ends at the same parameters. `run_folder` describes what it writes.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import jax
import numpy as np
import optax
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tqdm import tqdm

from jvrc.training import data, devices, run_folder
from jvrc.training.checkpoint import Checkpoints
from jvrc.training.log import Meter, MetricsFile
from jvrc.training.method import Method
from jvrc.training.recipe import Recipe
from jvrc.training.recipe_files import RECIPE_FILE, save_recipe
from jvrc.training.run_folder import METRICS_FILE, Run
from jvrc.training.state import State, init_state
from jvrc.training.stopping import Stopped, StopRequest
from jvrc.training.validation import make_validation

LOG_EVERY = 50  # training steps
DIVERGED = 5.0  # times the lowest loss of the run


def train(
    method: Method,
    images: data.Dataset,
    folder: str | Path,
    *,
    resume: bool = False,
    init: dict | None = None,
    stop_after: int | None = None,
    minutes: float | None = None,
    validate_every: int = 1000,
    save_minutes: float = 5.0,
    mesh: Mesh | None = None,
) -> Run:
    """Train as the method's recipe says, and write everything into the run's folder.

    Args:
      method: `SingleRate(recipe)` or `MultiRate(recipe)`.
      images: to train on and, held-out, to validate with.
      folder: of the run; a new one, unless `resume`.
      resume: continue the run of this recipe that the folder holds.
      init: parameters to begin with instead of new ones; post-training needs them.
      stop_after: end, with a checkpoint, once so many steps of the recipe are done.
      minutes: end likewise after this time, reading images and compiling included.
      validate_every: training steps between two validations.
      save_minutes: time between two checkpoints.
      mesh: of `devices.make_mesh`; None: all devices share the batch.

    Raises:
      ValueError: the folder already holds a run and resume is False, or holds another one; no init
        where the recipe needs it; the mesh does not divide the batch or the rates.
      FloatingPointError: the loss is not finite or diverged; the last checkpoint stays.
      Stopped: SIGINT (Ctrl-C) or SIGTERM came; a checkpoint of the last training step is saved.
    """
    begun, folder, recipe = time.monotonic(), Path(folder), method.recipe
    _check_limits(recipe, stop_after, minutes)
    run_folder.check_run(folder, recipe, resume)
    devices.wait_for_all("run checked")  # all processes have looked before the first one writes
    if not resume:
        recipe.check_beginning(warm=init is not None)
    mesh = mesh or devices.make_mesh()
    step = jit_step(method, mesh)
    cached, crops = data.ImageCache(images.train), data.centres(images.held_out)
    if devices.is_first_process():
        data.announce_small(cached, recipe.crop)
    validate = make_validation(recipe.config(), crops, method.validation_qsteps())
    with contextlib.closing(Checkpoints(folder)) as checkpoints:
        if resume:
            state = run_folder.restore_state(checkpoints, recipe, devices.everywhere(mesh))
        else:
            state = first_state(method, mesh, cached, init)
            _begin_run(folder, recipe, checkpoints, state)
        first, last = int(state.step), min(recipe.steps, stop_after or recipe.steps)
        loop = _Loop(
            recipe=recipe,
            step=step,
            validate=validate,
            checkpoints=checkpoints,
            log=MetricsFile(folder / METRICS_FILE, first),
            last=last,
            deadline=begun + 60 * minutes if minutes else np.inf,
            validate_every=validate_every,
            save_seconds=60 * save_minutes,
        )
        batches = contextlib.closing(_batches(recipe, cached, mesh, first, last))
        with StopRequest() as request, batches as made:
            state = loop.run(state, made, request)
    if request.signal is not None:
        raise Stopped(int(state.step), request.signal)
    # a copy that one process alone can use, as freezing does
    params = run_folder.model_params(recipe, devices.local_copy(state.ema))
    return Run(recipe.config(), params, recipe, int(state.step))


def jit_step(method: Method, mesh: Mesh) -> Callable[[State, Array], tuple]:
    """Return the method's training step, jitted; it takes over the buffers of the state."""
    step = method.make_step(mesh)
    return jax.jit(step, donate_argnums=0, out_shardings=devices.everywhere(mesh))


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
    return jax.jit(begin, out_shardings=devices.everywhere(mesh))(params)


def has_diverged(losses: Sequence[float]) -> bool:
    """Return True if the last loss is not finite, or above DIVERGED times the lowest before it."""
    *earlier, last = losses
    return not np.isfinite(last) or last > DIVERGED * min(earlier, default=np.inf)


def _begin_run(folder: Path, recipe: Recipe, checkpoints: Checkpoints, state: State) -> None:
    """Write the recipe and the first checkpoint of a run."""
    if devices.is_first_process():
        save_recipe(folder / RECIPE_FILE, recipe)
    run_folder.save_state(checkpoints, state)


def _check_limits(recipe: Recipe, stop_after: int | None, minutes: float | None) -> None:
    if stop_after is not None and stop_after <= recipe.first_step:
        raise ValueError(f"stop_after must be at least {recipe.first_step + 1}, got {stop_after}")
    if minutes is not None and not minutes > 0:
        raise ValueError(f"minutes must be above 0, got {minutes}")


def _batches(
    recipe: Recipe, images: data.ImageCache, mesh: Mesh, first: int, last: int
) -> Iterator[Array]:
    """Yield batches first … last-1 on the devices; every process makes all and keeps its part."""
    shape = {"size": recipe.crop, "count": recipe.batch}
    spread = NamedSharding(mesh, PartitionSpec("data"))
    made = data.prefetch(images, recipe.seed, first, last, **shape)
    with contextlib.closing(made):
        for batch in made:
            yield jax.make_array_from_callback(batch.shape, spread, batch.__getitem__)


@dataclass
class _Loop:
    """The loop over batches, with what it calls and when."""

    recipe: Recipe
    step: Callable[[State, Array], tuple]
    validate: Callable[[dict], dict]
    checkpoints: Checkpoints
    log: MetricsFile
    last: int  # training step to end at
    deadline: float  # of time.monotonic
    validate_every: int
    save_seconds: float
    losses: list[float] = field(default_factory=list)  # that were logged

    def run(self, state: State, batches: Iterator[Array], request: StopRequest) -> State:
        """Train until the last step, the deadline or a signal; return the final state."""
        first, meter, saved = int(state.step), Meter(), time.monotonic()
        bar = tqdm(total=self.recipe.steps, initial=first, desc="compiling", unit="step")
        with bar:
            for i in range(first + 1, self.last + 1):
                with meter.waiting():
                    batch = next(batches)
                state, report = self.step(state, batch)
                meter.add(report)
                if i == first + 1:
                    jax.block_until_ready(report)
                    _begin_estimate(bar)
                else:
                    bar.update()
                stopped = self._agreed(request.signal is not None, i)
                ending = i == self.last or stopped or self._due(self.deadline, i)
                if i % LOG_EVERY == 0 or ending:
                    bar.set_postfix(self._write_metrics(i, meter.means()))
                if not stopped and (i % self.validate_every == 0 or ending):
                    averaged = run_folder.model_params(self.recipe, state.ema)
                    self.log.write(i, validation=self.validate(averaged))
                if ending or self._due(saved + self.save_seconds, i):
                    self._save(state, i)
                    saved = time.monotonic()
                if ending:
                    break
        return state

    def _due(self, moment: float, step: int) -> bool:
        """Return True after the moment; all processes agree on it."""
        return self._agreed(time.monotonic() > moment, step)

    def _agreed(self, decision: bool, step: int) -> bool:
        return devices.agree(decision, ask=step % LOG_EVERY == 0)

    def _write_metrics(self, step: int, metrics: dict) -> dict[str, str]:
        """Write a line of metrics.jsonl and return what the progress bar shows of it."""
        self.losses.append(metrics["loss"])
        _check_divergence(self.losses, step)
        self.log.write(step, **metrics)
        return {k: f"{np.nanmean(metrics[k]):.3f}" for k in ("loss", "bpp", "psnr")}

    def _save(self, state: State, step: int) -> None:
        """Save a checkpoint, unless a parameter is not finite."""
        _check_divergence([float(optax.tree.norm(state.params))], step)
        run_folder.save_state(self.checkpoints, state)


def _begin_estimate(bar: tqdm) -> None:
    """Count the first training step, and estimate the time from here on: it compiled."""
    bar.n += 1
    bar.initial = bar.last_print_n = bar.n
    bar.start_t = bar.last_print_t = time.time()
    bar.set_description("training")


def _check_divergence(losses: Sequence[float], step: int) -> None:
    if has_diverged(losses):
        raise FloatingPointError(
            f"training diverged near step {step}; the last checkpoint is sound: start a new run "
            "from it (--from RUN) with a lower --learning-rate"
        )
