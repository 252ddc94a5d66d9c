"""The training loop: jitted training steps with donated state, validation, checkpoints, metrics.

What a training step does depends on the recipe and the number of the step alone (and, in a schedule
by the clock, on the fraction of it that is done), so a run that is interrupted and resumed ends at
the same parameters. `run_folder` describes what it writes.
"""

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import jax
import numpy as np
import optax
from jax import Array
from jax.sharding import Mesh
from tqdm import tqdm

from jvrc.training import clock, data, devices, feeding, run_folder, tile_crops
from jvrc.training.checkpoint import Checkpoints
from jvrc.training.clock import Clock, Cost, StartUp
from jvrc.training.log import Meter, MetricsFile
from jvrc.training.method import Method
from jvrc.training.recipe import Recipe
from jvrc.training.recipe_files import RECIPE_FILE, save_recipe
from jvrc.training.run_folder import METRICS_FILE, Run
from jvrc.training.state import State, init_state
from jvrc.training.stopping import Stopped, StopRequest
from jvrc.training.tile_file import Tiles
from jvrc.training.validation import make_validation, unnatural_tiles

LOG_EVERY = 50  # training steps
DIVERGED = 5.0  # times the lowest loss of the run
_MOST = 2**31 - 1
_AHEAD = 2  # dispatches that the host may be ahead of the devices


def train(
    method: Method,
    images: data.Dataset,
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
      mesh: of `devices.make_mesh`; None: all devices share the batch.
      start_up: what the command took so far; a schedule by the clock begins with it.

    Raises:
      ValueError: the folder already holds a run and resume is False, or holds another one; no init
        where the recipe needs it; the mesh does not divide the batch or the rates.
      FloatingPointError: the loss is not finite or diverged; the last checkpoint stays.
      Stopped: SIGINT (Ctrl-C) or SIGTERM came; a checkpoint of the last training step is saved.
    """
    start_up, folder, recipe = start_up or StartUp(), Path(folder), method.recipe
    _check_limits(stop_after, pause_after)
    run_folder.check_run(folder, recipe, resume)
    devices.wait_for_all("run checked")  # all processes have looked before the first one writes
    if not resume:
        recipe.check_beginning(warm=init is not None)
    mesh = mesh or devices.make_mesh()
    feed = _feed(method, images, mesh, on_device)
    if not isinstance(images.train, Tiles):
        images = images._replace(train=data.ImageCache(images.train))
        if devices.is_first_process():
            data.announce_small(images.train, recipe.crop)
    validate = make_validation(
        recipe.config(),
        data.centres(images.held_out),
        method.validation_qsteps(),
        unnatural=unnatural_tiles(images.held_out, size=min(256, recipe.crop)),
    )
    start_up.lap("images")
    with contextlib.closing(Checkpoints(folder)) as checkpoints, contextlib.closing(feed):
        saving = Cost()
        if resume:
            state = run_folder.restore_state(checkpoints, recipe, devices.everywhere(mesh))
        else:
            state = first_state(method, mesh, images.train, init)
            if optimizer_of:
                state = run_folder.with_optimizer_of(optimizer_of, state, devices.everywhere(mesh))
            with saving.counted():
                _begin_run(folder, recipe, checkpoints, state)
        start_up.lap("parameters")
        first = int(state.step)
        last = min(stop_after or _MOST, _last_step(recipe, state))
        feed.begin(images, first, last)
        loop = _Loop(
            recipe=recipe,
            feed=feed,
            validate=validate,
            checkpoints=checkpoints,
            log=MetricsFile(folder / METRICS_FILE, first),
            last=last,
            begun=start_up.begun,
            before=float(state.seconds),
            pause=start_up.begun + 60 * pause_after if pause_after else math.inf,
            validate_every=validate_every,
            save_seconds=60 * save_minutes,
            start_up=start_up,
            whole=devices.everywhere(mesh),
            clock=_clock(recipe, state, start_up.begun),
            saving=saving,
        )
        with StopRequest() as request:
            state = loop.run(state, request)
    if request.signal is not None:
        raise Stopped(int(state.step), request.signal)
    # a copy that one process alone can use, as freezing does
    params = run_folder.model_params(recipe, devices.local_copy(state.ema))
    return Run(recipe.config(), params, recipe, int(state.step))


def _feed(
    method: Method, images: data.Dataset, mesh: Mesh, on_device: bool | None
) -> feeding.HostFeed | feeding.DeviceFeed:
    """Return the feed of a run; its program compiles from now on."""
    recipe, tiles = method.recipe, images.train
    state = run_folder.abstract_state(recipe)
    if isinstance(tiles, Tiles) and (
        feeding.fits_on_device(tiles) if on_device is None else on_device
    ):
        return feeding.DeviceFeed(recipe, method.make_step(mesh), mesh, state, tiles)
    return feeding.HostFeed(recipe, jit_step(method, mesh), mesh, state)


def _last_step(recipe: Recipe, state: State) -> int:
    """Return the training step that a run ends at, if it does not by the clock."""
    if not recipe.minutes:
        return recipe.steps
    return int(state.step) if float(state.progress) >= 1 else _MOST


def _clock(recipe: Recipe, state: State, begun: float) -> Clock:
    """Return the clock of a schedule of `minutes`, of which earlier calls have taken a part."""
    end = begun + 60 * recipe.minutes - float(state.seconds)
    return Clock(end, float(state.progress), time.monotonic())


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


def _check_limits(stop_after: int | None, pause_after: float | None) -> None:
    if stop_after is not None and stop_after < 1:
        raise ValueError(f"stop_after must be at least 1, got {stop_after}")
    if pause_after is not None and not pause_after > 0:
        raise ValueError(f"pause_after must be above 0 minutes, got {pause_after}")


@dataclass
class _Loop:
    """The loop over training steps, with what it calls and when. Moments: of time.monotonic."""

    recipe: Recipe
    feed: feeding.Feed
    validate: Callable[[dict], dict]
    checkpoints: Checkpoints
    log: MetricsFile
    last: int  # training step to end at
    begun: float  # moment of the command
    before: float  # seconds that earlier calls took
    pause: float  # moment to end this call at
    validate_every: int
    save_seconds: float
    start_up: StartUp
    whole: jax.sharding.Sharding
    clock: Clock
    saving: Cost  # of checkpoints
    validating: Cost = field(default_factory=Cost)
    losses: list[float] = field(default_factory=list)  # that were logged
    skipped: int = 0  # training steps, as outliers
    pending: deque = field(default_factory=deque)  # reports of dispatches

    def run(self, state: State, request: StopRequest) -> State:
        """Train until the last step, the end of the schedule, the pause or a signal.

        Returns the final state.
        """
        first, meter, saved = int(state.step), Meter(), time.monotonic()
        total = None if self.recipe.minutes else self.recipe.steps
        together = math.gcd(self.feed.together, self.validate_every, LOG_EVERY)
        bar = tqdm(total=total, initial=first, desc="compiling", unit="step")
        with bar:
            for begin, i in tile_crops.chunks(first, self.last, together):
                state, reports = self.feed.advance(state, i - begin, meter.waiting)
                self._keep_pace(reports, i - begin if begin == first else 0, bar)
                meter.add(reports, i - begin if self.feed.together > 1 else None)
                if begin > first:
                    bar.update(i - begin)
                stopped = self._agreed(request.signal is not None, i)
                state, ending = self._on_the_clock(state, i)
                ending |= stopped
                if i % LOG_EVERY == 0 or ending:
                    bar.set_postfix(self._write_metrics(i, state, meter.means()))
                due = ending or (i % self.validate_every == 0 and self._affordable())
                if due and not stopped:
                    self._validate(state, i)
                interval = max(self.save_seconds, self.saving.newest / clock.OVERHEAD)
                if ending or self._due(saved + interval, i):
                    self._save(state, i)
                    saved = time.monotonic()
                if ending:
                    break
        return state

    def _keep_pace(self, reports: dict, first: int, bar: tqdm) -> None:
        """Wait for the devices, so that the host is a few dispatches ahead of them at most.

        first: training steps of the first dispatch, 0 in others.
        """
        self.pending.append(reports["loss"])
        if first or len(self.pending) > _AHEAD:
            jax.block_until_ready(self.pending.popleft())
        if first:
            self.start_up.lap("first step")
            _begin_estimate(bar, first)
            bar.write(str(self.start_up))
            self.clock.last = time.monotonic()

    def _on_the_clock(self, state: State, i: int) -> tuple[State, bool]:
        """Return the state at the fraction of the schedule that is done, and True to end here."""
        paused = i == self.last or self._due(self.pause, i)
        if not self.recipe.minutes:
            return state, paused
        done = devices.shared(self.clock.advance(self._reserve(i)))
        progress = jax.device_put(np.float32(done), self.whole)
        return state._replace(progress=progress), paused or done >= 1

    def _reserve(self, i: int) -> float:
        """Return the seconds that the last validation and checkpoint will take, or an estimate."""
        speed = (time.monotonic() - self.begun) / max(1, i)
        validating = self.validating.newest or min(0.05 * 60 * self.recipe.minutes, 20 * speed)
        return 1.2 * (validating + self.saving.newest)

    def _due(self, moment: float, step: int) -> bool:
        """Return True after the moment; all processes agree on it."""
        return self._agreed(time.monotonic() > moment, step)

    def _agreed(self, decision: bool, step: int) -> bool:
        return devices.agree(decision, ask=step % LOG_EVERY == 0)

    def _affordable(self) -> bool:
        return devices.agree(self.validating.affordable(), ask=True)

    def _write_metrics(self, step: int, state: State, metrics: dict) -> dict[str, str]:
        """Write a line of metrics.jsonl and return what the progress bar shows of it."""
        every_step = metrics["skipped"] == LOG_EVERY  # nothing is learnt any more
        self.losses.append(np.nan if every_step else metrics["loss"])
        self.skipped += metrics["skipped"]
        _check_divergence(self.losses, step)
        times = {"validation_s": self.validating.total, "checkpoint_s": self.saving.total}
        progress = float(state.progress) if self.recipe.minutes else step / self.recipe.steps
        self.log.write(step, **metrics, progress=progress, **times)
        shown = {k: f"{np.nanmean(metrics[k]):.3f}" for k in ("loss", "bpp", "psnr")}
        shown |= {"skipped": str(self.skipped)} if self.skipped else {}
        return shown | ({"done": f"{progress:.0%}"} if self.recipe.minutes else {})

    def _validate(self, state: State, step: int) -> None:
        averaged = run_folder.model_params(self.recipe, state.ema)
        with self.validating.counted():
            report = self.validate(averaged)
        self.log.write(step, validation=report | {"seconds": self.validating.newest})

    def _save(self, state: State, step: int) -> None:
        """Save a checkpoint, unless a parameter is not finite."""
        _check_divergence([float(optax.tree.norm(state.params))], step)
        seconds = np.float32(self.before + time.monotonic() - self.begun)
        with self.saving.counted():
            run_folder.save_state(
                self.checkpoints,
                state._replace(seconds=jax.device_put(seconds, self.whole)),
            )


def _begin_estimate(bar: tqdm, steps: int) -> None:
    """Count the first training steps, and estimate the time from here on: they compiled."""
    bar.n += steps
    bar.initial = bar.last_print_n = bar.n
    bar.start_t = bar.last_print_t = time.time()
    bar.set_description("training")


def _check_divergence(losses: Sequence[float], step: int) -> None:
    if has_diverged(losses):
        raise FloatingPointError(
            f"training diverged near step {step}; the last checkpoint is sound: start a new run "
            "from it (--from RUN) with a lower --learning-rate"
        )
