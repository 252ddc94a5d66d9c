"""The training loop: one jitted step with donated state, validation, checkpoints, a metrics file.

A run is a folder: recipe.json, metrics.jsonl, checkpoints/. What a step does depends on the recipe
and the step's number alone, so an interrupted run that is resumed ends at the same parameters.

May import: all of jvrc.training, jvrc.model.
"""

import contextlib
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from tqdm import tqdm

from jvrc.images import write_bytes
from jvrc.model import architectures
from jvrc.model.config import Config
from jvrc.training import data, objectives, optimizer, pyramid
from jvrc.training.checkpoint import Checkpoints
from jvrc.training.recipe import Recipe, load_recipe

VALIDATION_QSTEPS = (1.5, 3.0, 6.0, 12.0)
CALIBRATION_CROPS = 128
LOG_EVERY = 50


class State(NamedTuple):
    """All that changes; donated to each step."""

    step: Array  # int32 []
    params: dict
    ema: dict  # exponential moving average of params: what is validated and shipped
    opt_state: optax.OptState


class Run(NamedTuple):
    """A finished or interrupted run, ready to be frozen."""

    config: Config
    params: dict
    recipe: Recipe
    step: int


def model_config(recipe: Recipe) -> Config:
    """The model's description with the constants of the recipe's start."""
    config = recipe.config()
    return pyramid.pyramid_config(config) if recipe.start == "pyramid" else config


def init_state(recipe: Recipe, params: dict) -> State:
    """The state before the first step."""
    rule = optimizer.make_optimizer(recipe.optimizer, recipe.learning_rate, recipe.steps)
    params, ema = (jax.tree.map(jnp.array, params) for _ in range(2))  # copies: steps donate
    return State(jnp.int32(0), params, ema, rule.init(params))


def start_params(recipe: Recipe, pictures: data.Pictures) -> dict:
    """Parameters at step 0, as the recipe's `start` says."""
    key, config = jax.random.key(recipe.seed), model_config(recipe)
    if recipe.start == "random":
        return architectures.init_params(key, config)
    shape = {"size": recipe.crop, "count": CALIBRATION_CROPS}
    crops = data.batch(pictures, recipe.seed, 2**31, **shape)
    return pyramid.pyramid_params(key, config, crops / np.float32(255))


def make_step(recipe: Recipe) -> Callable[[State, Array], tuple[State, dict[str, Array]]]:
    """The jitted update: (state, uint8 [B,crop,crop,3]) -> (state, scalars to report)."""
    config = model_config(recipe)
    rule = optimizer.make_optimizer(recipe.optimizer, recipe.learning_rate, recipe.steps)

    @partial(jax.jit, donate_argnums=0)
    def step(state: State, images: Array) -> tuple[State, dict[str, Array]]:
        key = jax.random.fold_in(jax.random.key(recipe.seed), state.step)
        k_noise, k_rate = jax.random.split(key)
        x = images.astype(jnp.float32) / 255
        qstep = objectives.draw_qsteps(k_rate, x.shape[0], recipe.qstep_low, recipe.qstep_high)
        loss = partial(objectives.training_loss, config)
        (_, parts), grads = jax.value_and_grad(loss, has_aux=True)(state.params, x, qstep, k_noise)
        updates, opt_state = rule.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        # a short average at first, so that the start does not linger in it
        decay = jnp.minimum(recipe.ema, (1 + state.step) / (10 + state.step))
        ema = jax.tree.map(lambda e, p: e + (1 - decay) * (p - e), state.ema, params)
        report = {
            "loss": objectives.balanced_mean(parts.rd, qstep),  # without the auxiliary loss
            "bpp": jnp.mean(parts.bpp),
            "psnr": jnp.mean(-10 * jnp.log10(parts.mse)),
            "gradient_norm": optax.tree.norm(grads),
        }
        return State(state.step + 1, params, ema, opt_state), report

    return step


def make_validation(config: Config, crops: np.ndarray) -> Callable[[dict], dict]:
    """params -> loss, and bpp and PSNR (dB) by estimated bits of rounded latents, per qstep."""
    groups = [jnp.asarray(g) for g in np.array_split(crops, max(1, len(crops) // 8))]
    evaluate = jax.jit(lambda p, x, q: objectives.losses(config, p, x / 255.0, q, None))

    def validate(params: dict) -> dict:
        report: dict = {"bpp": [], "psnr": []}
        total = []
        for qstep in VALIDATION_QSTEPS:
            parts = [evaluate(params, g, jnp.full(len(g), qstep)) for g in groups]
            rd, bpp, mse = (np.concatenate([np.asarray(p[i]) for p in parts]) for i in range(3))
            total.append(float(objectives.balanced_mean(rd, qstep)))
            report["bpp"].append(round(float(bpp.mean()), 4))
            report["psnr"].append(round(float(-10 * np.log10(mse).mean()), 3))
        return {"loss": round(float(np.mean(total)), 5)} | report

    return validate


def train(
    recipe: Recipe,
    folder: str | Path,
    run: str | Path,
    *,
    resume: bool = False,
    init: dict | None = None,
    stop_after: int | None = None,
    validate_every: int = 1000,
    save_minutes: float = 5.0,
) -> Run:
    """Trains `recipe` on the pictures in `folder`; everything goes into the folder `run`.

    init: parameters to begin with instead of the recipe's start. stop_after: end (with a
    checkpoint) once this many steps of the recipe are done.

    Raises:
      ValueError: no pictures; `run` already holds a run and resume is False, or holds another one.
      FloatingPointError: the loss is no longer finite; the last checkpoint stays.
    """
    run = Path(run)
    if stop_after is not None and stop_after < 1:
        raise ValueError(f"stop_after must be at least 1, got {stop_after}")
    _check_run(run, recipe, resume)
    paths, held = data.split_validation(data.list_images(folder))
    pictures = data.Pictures(paths)
    validate = make_validation(model_config(recipe), data.centres(held or paths))
    with contextlib.closing(Checkpoints(run)) as checkpoints:
        if resume:
            state = checkpoints.restore(_abstract_state(recipe))
        else:
            state = init_state(recipe, init or start_params(recipe, pictures))
            recipe.save(run / "recipe.json")
            checkpoints.save(0, state)
        last = min(recipe.steps, stop_after or recipe.steps)
        clock = {"every": validate_every, "minutes": save_minutes}
        log = _Log(run, int(state.step))
        state = _loop(recipe, state, pictures, last, validate, checkpoints, log, **clock)
    return Run(model_config(recipe), state.ema, recipe, int(state.step))


def load_run(run: str | Path) -> Run:
    """The newest checkpoint of a run folder; ValueError if there is none."""
    run = Path(run)
    if not (run / "recipe.json").is_file():
        raise ValueError(f"run must be a folder that `jvrc train` wrote; got {str(run)!r}")
    recipe = load_recipe(run / "recipe.json")
    with contextlib.closing(Checkpoints(run)) as checkpoints:
        state = checkpoints.restore(_abstract_state(recipe))
    return Run(model_config(recipe), state.ema, recipe, int(state.step))


def _abstract_state(recipe: Recipe) -> State:
    """Shapes and dtypes of the state, without computing anything."""
    config = model_config(recipe)
    return jax.eval_shape(
        lambda key: init_state(recipe, architectures.init_params(key, config)), jax.random.key(0)
    )


def _check_run(run: Path, recipe: Recipe, resume: bool) -> None:
    path = run / "recipe.json"
    if path.exists() and not resume:
        raise ValueError(f"run must be a new folder; {run} holds a run: pass --resume to go on")
    if resume and not path.exists():
        raise ValueError(f"run must be a folder that `jvrc train` wrote to resume; {run} is none")
    if resume and load_recipe(path) != recipe:
        raise ValueError(f"{path} differs from the recipe given; resume with the same, or none")
    run.mkdir(parents=True, exist_ok=True)


class _Log:
    """metrics.jsonl; on resuming, what lies beyond the checkpoint is dropped."""

    def __init__(self, run: Path, step: int) -> None:
        self._path = run / "metrics.jsonl"
        old = self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []
        kept = [line for line in old if self._step_of(line) <= step]
        write_bytes(self._path, "".join(line + "\n" for line in kept).encode())

    @staticmethod
    def _step_of(line: str) -> float:
        """Infinity for a line that a crash cut off."""
        try:
            return json.loads(line)["step"]
        except (ValueError, TypeError, KeyError):
            return np.inf

    def write(self, step: int, **values: object) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step} | values) + "\n")


def _loop(
    recipe: Recipe,
    state: State,
    pictures: data.Pictures,
    last: int,
    validate: Callable[[dict], dict],
    checkpoints: Checkpoints,
    log: _Log,
    *,
    every: int,
    minutes: float,
) -> State:
    step = make_step(recipe)
    first = int(state.step)
    batches = data.prefetch(
        pictures, recipe.seed, first, last, size=recipe.crop, count=recipe.batch
    )
    reports: list[dict] = []
    begun = saved = time.monotonic()
    waited = 0.0
    bar = tqdm(total=recipe.steps, initial=first, desc="training", unit="step")
    with bar, contextlib.closing(batches):
        for i in range(first, last):
            before = time.monotonic()
            images = next(batches)
            waited += time.monotonic() - before
            state, report = step(state, images)
            reports.append(report)
            bar.update()
            if (i + 1) % LOG_EVERY == 0 or i + 1 == last:
                means = _means(reports, i + 1)
                elapsed = time.monotonic() - begun
                speed = {"steps_per_s": len(reports) / elapsed, "data_wait": waited / elapsed}
                log.write(i + 1, **{k: round(v, 5) for k, v in (means | speed).items()})
                bar.set_postfix({k: f"{means[k]:.3f}" for k in ("loss", "bpp", "psnr")})
                reports, begun, waited = [], time.monotonic(), 0.0
            if (i + 1) % every == 0 or i + 1 == last:
                log.write(i + 1, validation=validate(state.ema))
            if time.monotonic() - saved > 60 * minutes or i + 1 == last:
                _check_finite(float(optax.tree.norm(state.params)), i + 1)
                checkpoints.save(i + 1, state)
                saved = time.monotonic()
    return state


def _means(reports: list[dict], step: int) -> dict[str, float]:
    means = {k: float(np.mean([float(r[k]) for r in reports])) for k in reports[0]}
    _check_finite(means["loss"], step)
    return means


def _check_finite(value: float, step: int) -> None:
    if not np.isfinite(value):
        raise FloatingPointError(
            f"training diverged near step {step}; the last checkpoint is sound: start a new run "
            "from it (--from RUN) with a lower --learning-rate"
        )
