"""Warm start: parameters of an earlier run or of a frozen model, to train further."""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jvrc.frozen import zoo
from jvrc.frozen.model import FrozenModel
from jvrc.model import architectures, context, transforms
from jvrc.model.config import Config
from jvrc.model.modules import init_params
from jvrc.training import objectives
from jvrc.training.klt_scales import klt_config
from jvrc.training.recipe_files import with_present_names
from jvrc.training.run_folder import load_run

Crops = Callable[[], np.ndarray]


def read_source(source: str | Path) -> tuple[Config, dict, str]:
    """Return (config, parameters, a line for the record) of a run or a frozen model.

    source: a run's folder, a weights file or the name of a shipped model. A frozen model has
    latent_scale and hyper_scale at one; its parameters get back the scales of its training.

    Raises:
      ValueError: the source is none of these.
    """
    if Path(source).is_dir():
        run = load_run(source)
        return run.config, run.params, f"run {Path(source).name}, step {run.step}"
    model = zoo.load(source)
    scales = _training_scales(model)
    config, params = architectures.with_scales(
        model.config, jax.tree.map(jnp.asarray, model.params), **scales
    )
    return config, params, f"model {model.model_id}"


def params_from(
    source: str | Path, config: Config, crops: Crops | None = None, *, seed: int = 0
) -> tuple[dict, str]:
    """Return (parameters in the scales of `config`, a line for the record) of a source.

    source: as for `read_source`. If it is of another architecture, the parts that both have are
    taken over (see `grafted`); a new context model is fitted to crops() [n,H,W,3] in [0,1], which
    is called only then.

    Raises:
      ValueError: the source has another N, M or log_scale than `config`, or does not exist.
    """
    found, params, described = _read_in_scales(source, config, ("N", "M", "log_scale"))
    if found.architecture != config.architecture:
        params = grafted(params, config, jax.random.key(seed), crops)
        described += f" ({found.architecture})"
    return params, described


def transforms_from(source: str | Path, config: Config) -> tuple[dict, str]:
    """Return (g_a and g_s in the scales of `config`, a line for the record) of a source.

    source: as for `read_source`, of any architecture. An entropy model that was trained with
    earlier versions of these transforms still fits, and adapts in further training.

    Raises:
      ValueError: the source has another N or M than `config`, or does not exist.
    """
    _, params, described = _read_in_scales(source, config, ("N", "M"))
    return {name: params[name] for name in objectives.TRANSFORMS}, described


def _read_in_scales(
    source: str | Path, config: Config, same: tuple[str, ...]
) -> tuple[Config, dict, str]:
    """Return what `read_source` does in the scales of `config`; the fields `same` must agree."""
    found, params, described = read_source(source)
    for name in same:
        if getattr(found, name) != getattr(config, name):
            raise ValueError(
                f"{source}: {name} is {getattr(found, name)!r}, "
                f"the recipe says {getattr(config, name)!r}: set its {name.lower()} to that"
            )
    scales = {"latent_scale": config.latent_scale, "hyper_scale": config.hyper_scale}
    return *architectures.with_scales(found, params, **scales), described


def grafted(params: dict, config: Config, key: jax.Array, crops: Crops | None = None) -> dict:
    """Return parameters for `config` from those of another architecture, same sizes and scales.

    Parts of the same shapes are taken over, parts that `config` does not have are dropped, the
    others are new. A new h_s gets the last bias of the old one: its average output.
    """
    fresh = init_params(key, config)
    shapes = {name: jax.tree.map(jnp.shape, part) for name, part in params.items()}
    same = [n for n in fresh if n in params and jax.tree.map(jnp.shape, fresh[n]) == shapes[n]]
    if "h_s" not in same:
        last = fresh["h_s"]["conv2"]
        last["kernel"] *= 0.1
        count = min(last["bias"].size, params["h_s"]["conv2"]["bias"].size)
        last["bias"] = last["bias"].at[:count].set(params["h_s"]["conv2"]["bias"][:count])
    merged = fresh | {name: params[name] for name in same}
    if config.has_context and "context" not in params and crops is not None:
        reach = _reach_of_psi(config, merged, crops())
        merged["entropy_parameters"] = context.with_linear_range(fresh["entropy_parameters"], reach)
    return merged


def _reach_of_psi(config: Config, params: dict, crops: np.ndarray) -> jax.Array:
    """Return how far the outputs of h_s for crops reach below zero, and a little more: [2M]."""

    @jax.jit
    def lowest(x: jax.Array) -> jax.Array:
        z = architectures.analyse(config, params, x).z
        return transforms.hyper_layers(config, params["h_s"], jnp.round(z))[-1].min((0, 1, 2))

    return 1.0 - 1.2 * jnp.minimum(0.0, jnp.min(jnp.stack([lowest(x[None]) for x in crops]), 0))


def _training_scales(model: FrozenModel) -> dict[str, float]:
    """Return the scales in which a model was trained, by its header; 1 where it has none."""
    recipe = model.metadata.get("recipe")
    recipe = with_present_names(recipe) if isinstance(recipe, dict) else {}
    if recipe.get("initialisation") == "klt":
        config = klt_config(model.config)
        return {"latent_scale": config.latent_scale, "hyper_scale": config.hyper_scale}
    return {name: float(recipe.get(name, 1.0)) for name in ("latent_scale", "hyper_scale")}
