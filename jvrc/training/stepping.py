"""The loop over training steps: when it logs, validates, saves and ends.

What a training step does depends on the recipe and the number of the step alone (and, in a schedule
by the clock, on the fraction of it that is done). Moments are those of `time.monotonic`.
"""

import math
import signal
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import jax
import numpy as np
from tqdm import tqdm

from jvrc.training.feeding import Feed
from jvrc.training.recipe.schema import Recipe
from jvrc.training.run import parallel, run_folder
from jvrc.training.run.checkpoint import Checkpoints
from jvrc.training.run.clock import OVERHEAD, Clock, Cost, Schedule, StartUp
from jvrc.training.run.divergence import check_divergence
from jvrc.training.run.log import Meter, MetricsFile, Window
from jvrc.training.run.stopping import StopRequest
from jvrc.training.update.state import State
from jvrc.training.validation.held_out import Validation

LOG_EVERY = 50  # training steps
_AHEAD = 2  # dispatches that the host may be ahead of the devices


@dataclass(frozen=True)
class Limits:
    """When a call ends, validates and saves."""

    last: int  # training step to end at
    pause: float  # moment to end this call at
    validate_every: int  # training steps
    save_seconds: float  # between two checkpoints


@dataclass
class Loop:
    """The loop, with what it calls."""

    recipe: Recipe
    feed: Feed
    validate: Validation
    checkpoints: Checkpoints
    log: MetricsFile
    limits: Limits
    start_up: StartUp
    whole: jax.sharding.NamedSharding
    saving: Cost  # of checkpoints
    validating: Cost = field(default_factory=Cost)
    losses: list[float] = field(default_factory=list)  # that were logged
    skipped: int = 0  # training steps, as outliers
    pending: deque = field(default_factory=deque)  # reports of dispatches
    meter: Meter = field(default_factory=Meter)
    unwritten: tuple[int, float, Window] | None = None  # step and progress of a line of metrics
    shown: dict[str, str] = field(default_factory=dict)  # by the progress bar, of the newest line
    saved: float = field(default_factory=time.monotonic)  # moment of the last checkpoint
    put_off: bool = False  # a validation, until its program is compiled
    schedule: Schedule | None = None  # once training has begun, likewise the next one
    clock: Clock | None = None
    done: float = 0.0  # fraction of the schedule
    trained_since: tuple[int, float] = (0, 0.0)  # step and moment of the first dispatch's end
    saving_at_start: float = 0.0  # seconds of the checkpoint that a new run begins with

    def run(self, state: State, request: StopRequest) -> State:
        """Train until the last step, the end of the schedule, the pause or a signal.

        Returns the final state.
        """
        seconds, begun = 60 * self.recipe.minutes, self.start_up.begun
        earlier = float(state.seconds), float(state.progress)
        self.schedule = Schedule(seconds, *earlier, begun, self.limits.pause)
        self.saving_at_start = self.saving.total
        first, total = int(state.step), None if seconds else self.recipe.steps
        together = math.gcd(self.feed.together, self.limits.validate_every, LOG_EVERY)
        with tqdm(total=total, initial=first, desc="compiling", unit="step") as bar:
            for begin, i in chunks(first, self.limits.last, together):
                state = self._advance(state, i - begin, bar)
                stopped = self._agreed(request.signal is not None, i)
                if stopped and request.signal is None:
                    request.signal = signal.SIGTERM  # to another process
                state, ending = self._on_the_clock(state, i)
                ending |= stopped
                if i % LOG_EVERY == 0 or ending:
                    self.unwritten = i, self.done, self.meter.window()
                self._validate_and_save(state, i, ending=ending, stopped=stopped)
                bar.set_postfix(self.shown, refresh=ending)
                if ending:
                    bar.write(self._shares())
                    break
        return state

    def _advance(self, state: State, count: int, bar: tqdm) -> State:
        """Return the state after so many steps, and count their reports."""
        state, reports = self.feed.advance(state, count, self.meter.waiting)
        self.pending.append(reports["loss"])
        begins = self.clock is None
        # the host is a few dispatches ahead of the devices at most
        if begins or len(self.pending) > _AHEAD:
            jax.block_until_ready(self.pending.popleft())
        if begins:
            self._begin(int(state.step), count, bar)
        else:
            bar.update(count)
        self._write_metrics()  # of steps before this dispatch, which the devices compute meanwhile
        self.meter.add(reports, count if self.feed.together > 1 else None)
        return state

    def _begin(self, i: int, steps: int, bar: tqdm) -> None:
        """Count the first steps, and estimate the time from here on: they compiled."""
        self.start_up.lap("first step")
        self.trained_since = i, time.monotonic()
        self.clock = self.schedule.clock(self.trained_since[1])
        bar.n += steps
        bar.initial = bar.last_print_n = bar.n
        bar.start_t = bar.last_print_t = time.time()
        bar.set_description("training")
        bar.write(f"{self.start_up}; {parallel.described()}, {self.feed.described}")

    def _on_the_clock(self, state: State, i: int) -> tuple[State, bool]:
        """Return the state at the fraction of the schedule that is done, and True to end here."""
        paused = i == self.limits.last or self._due(self.limits.pause, i)
        if not self.recipe.minutes:
            self.done = i / self.recipe.steps
            return state, paused
        self.done = parallel.shared(self.clock.advance(self._reserve(i)))
        progress = parallel.put(np.float32(self.done), self.whole)
        return state._replace(progress=progress), paused or self.done >= 1

    def _reserve(self, i: int) -> float:
        """Return the seconds from here to the end of the call, if training ended now.

        Dispatches that are under way, the last validation, or an estimate, and a checkpoint.
        """
        first, begun = self.trained_since
        pace = (time.monotonic() - begun) / max(1, i - first)  # seconds a training step
        under_way = len(self.pending) * self.feed.together * pace
        validating = self.validating.newest or min(0.05 * self.schedule.seconds, 20 * pace)
        return under_way + 1.2 * (validating + self.saving.newest)

    def _due(self, moment: float, step: int) -> bool:
        """Return True after the moment; all processes agree on it."""
        return self._agreed(time.monotonic() > moment, step)

    def _agreed(self, decision: bool, step: int) -> bool:
        return parallel.agree(decision, ask=step % LOG_EVERY == 0)

    def _affordable(self) -> bool:
        return parallel.agree(self.validating.affordable(), ask=True)

    def _write_metrics(self) -> None:
        """Write the line of metrics.jsonl that is due, if there is one."""
        if self.unwritten is None:
            return
        (step, progress, window), self.unwritten = self.unwritten, None
        metrics = window.means()
        self.skipped += metrics["skipped"]
        if step % LOG_EVERY == 0:  # few steps, at the end of a call, say nothing
            every_step = metrics["skipped"] == LOG_EVERY  # nothing is learnt any more
            self.losses.append(np.nan if every_step else metrics["loss"])
            check_divergence(self.losses, step)
        times = {"validation_s": self.validating.total, "checkpoint_s": self.saving.total}
        self.log.write(step, **metrics, progress=progress, **times)
        shown = {k: f"{_finite_mean(metrics[k]):.3f}" for k in ("loss", "bpp", "psnr")}
        shown |= {"skipped": str(self.skipped)} if self.skipped else {}
        self.shown = shown | ({"done": f"{progress:.0%}"} if self.recipe.minutes else {})

    def _validate_and_save(self, state: State, step: int, *, ending: bool, stopped: bool) -> None:
        """Do what is due after a step; a signal leaves no time to validate."""
        due = self.is_validation_due(step)
        if (ending or due) and not stopped:
            self._validate(state, step)
        interval = max(self.limits.save_seconds, self.saving.newest / OVERHEAD)
        if ending or self._due(self.saved + interval, step):
            self._save(state, step)
            self.saved = time.monotonic()

    def is_validation_due(self, step: int) -> bool:
        """Return True where a validation is due and affordable.

        A run by the clock goes on training while the first one's program compiles; then it is due.
        """
        due = step % self.limits.validate_every == 0
        if self.recipe.minutes and not self.validating.times:
            self.put_off |= due
            return self.put_off and self._agreed(self.validate.is_compiled(), step)
        return due and self._affordable()

    def _validate(self, state: State, step: int) -> None:
        self._write_metrics()
        averaged = run_folder.model_params(self.recipe, state.ema)
        jax.block_until_ready(averaged)  # neither training nor compiling is a cost of validation
        self.validate.wait()
        with self.validating.counted():
            report = self.validate(averaged)
        self.log.write(step, validation=report | {"seconds": self.validating.newest})

    def _save(self, state: State, step: int) -> None:
        """Save a checkpoint, unless training has diverged or a parameter is not finite."""
        self._write_metrics()
        finite = all(np.isfinite(a).all() for a in jax.tree.leaves(jax.device_get(state.params)))
        check_divergence([0.0 if finite else np.nan], step)  # by NumPy: nothing to compile
        spent = self.schedule.spent + time.monotonic() - self.schedule.begun
        seconds = parallel.put(np.float32(parallel.shared(spent)), self.whole)
        with self.saving.counted():
            run_folder.save_state(self.checkpoints, state._replace(seconds=seconds))

    def _shares(self) -> str:
        """Return a line that says what took the time of this call."""
        total = time.monotonic() - self.start_up.begun
        start = sum(self.start_up.parts.values())  # with the first checkpoint of a new run
        saving = self.saving.total - self.saving_at_start
        parts = {"start": start, "validation": self.validating.total, "checkpoints": saving}
        parts["training"] = total - sum(parts.values())
        listed = ", ".join(f"{name} {s:.1f} s ({s / total:.1%})" for name, s in parts.items())
        return f"{total:.1f} s: {listed}"


def _finite_mean(values: np.ndarray | float) -> float:
    """Return the mean of what is finite; NaN if nothing is."""
    values = np.asarray(values)
    return float(np.mean(values[np.isfinite(values)])) if np.isfinite(values).any() else np.nan


def chunks(first: int, last: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield (begin, end) of the steps first … last-1 in parts that end at multiples of `size`."""
    while first < last:
        end = min(last, (first // size + 1) * size)
        yield first, end
        first = end
