"""Warm start: parameters of an earlier run or of a frozen model, to train further."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jvrc.frozen import zoo
from jvrc.frozen.model import FrozenModel
from jvrc.model import architectures, context, transforms
from jvrc.model.config import Config, HyperpriorConfig, Jvrc2026Config
from jvrc.model.modules import init_params
from jvrc.training.initialisation.klt_scales import klt_config
from jvrc.training.loss import objectives
from jvrc.training.recipe.files import with_present_names
from jvrc.training.recipe.schema import size_names
from jvrc.training.run.run_folder import load_run

Crops = Callable[[], np.ndarray]
_BLOCKS = ("g_a", "g_s", "context")  # the parts of jvrc2026 that may become deeper


class Source(NamedTuple):
    """A model to begin with."""

    config: Config
    params: dict
    described: str  # a line for the record


def read_source(source: str | Path) -> Source:
    """Return a run or a frozen model to begin with.

    source: a run's folder, a weights file or the name of a shipped model. A frozen model has
    latent_scale and hyper_scale at one; its parameters get back the scales of its training.

    Raises:
      ValueError: the source is none of these.
    """
    if Path(source).is_dir():
        run = load_run(source)
        return Source(run.config, run.params, f"run {Path(source).name}, step {run.step}")
    model = zoo.load(source)
    scales = _training_scales(model)
    config, params = architectures.with_scales(model.config, _trainable(model.params), **scales)
    return Source(config, params, f"model {model.model_id}")


def _trainable(params: dict) -> dict:
    """Return the parameters of a frozen model without those that freezing added."""
    params = dict(params)
    if "delta" in params:  # the range of Delta in training
        params["delta"] = {k: v for k, v in params["delta"].items() if k != "range"}
    return params


def params_from(
    source: Source, config: Config, crops: Crops | None = None, *, seed: int = 0
) -> tuple[dict, str]:
    """Return (parameters in the scales of `config`, a line for the record) of a source.

    If the source is of another architecture of 2018, the parts that both have are taken over (see
    `grafted`); a new context model is fitted to crops() [n,H,W,3] in [0,1], which is called only
    then. A jvrc2026 may have fewer blocks than `config`: see `deepened`.

    Raises:
      ValueError: the source has other sizes than `config`.
    """
    found, described = source.config, source.described
    if isinstance(found, HyperpriorConfig) and isinstance(config, HyperpriorConfig):
        _check_same(source, config, ("N", "M", "log_scale"))
    else:
        _check_deepened(source, config)
    params, key = _in_scales(source, config), jax.random.key(seed)
    if isinstance(config, Jvrc2026Config):
        params = deepened(params, config, key)
    elif found.architecture != config.architecture:
        params = grafted(params, config, key, crops)
        described += f" ({found.architecture})"
    return params, described


def transforms_from(source: Source, config: Config) -> tuple[dict, str]:
    """Return (g_a and g_s in the scales of `config`, a line for the record) of a source.

    source: of any architecture of 2018. An entropy model that was trained with earlier versions of
    these transforms still fits, and adapts in further training.

    Raises:
      ValueError: the source has another N or M than `config`, or one of them is a jvrc2026.
    """
    for model in (source.config, config):
        if not isinstance(model, HyperpriorConfig):
            raise ValueError(
                f"--transforms-from must be a model of 2018, for another one; {model.architecture} "
                "has parameters that its transforms share with its entropy model"
            )
    _check_same(source, config, ("N", "M"))
    params = _in_scales(source, config)
    return {name: params[name] for name in objectives.TRANSFORMS}, source.described


def _in_scales(source: Source, config: Config) -> dict:
    """Return the parameters of a source in the scales of `config`."""
    scales = {"latent_scale": config.latent_scale, "hyper_scale": config.hyper_scale}
    return architectures.with_scales(source.config, source.params, **scales)[1]


def _check_same(source: Source, config: Config, names: Iterable[str]) -> None:
    """Raise ValueError unless these fields of a source's config are those of `config`."""
    found, wanted = source.config, config
    differing = [name for name in names if getattr(found, name) != getattr(wanted, name)]
    if not differing:
        return
    sizes = size_names(config.architecture)
    to_set = [name.lower() for name in differing if name not in sizes]
    listed = [f"{name}={getattr(found, name)}" for name in differing if name in sizes]
    to_set += [f"sizes {','.join(listed)}"] if listed else []
    said = "; ".join(
        f"{name} is {getattr(found, name)!r}, the recipe says {getattr(wanted, name)!r}"
        for name in differing
    )
    raise ValueError(f"{source.described}: {said}: set its {', '.join(to_set)} to that")


def _check_deepened(source: Source, config: Config) -> None:
    """Raise ValueError unless `config` is that of a source, or the same with more blocks."""
    if source.config.architecture != config.architecture:
        raise ValueError(
            f"{source.described}: a model of {source.config.architecture} is no beginning for one "
            f"of {config.architecture}"
        )
    depths = [f"{part}_blocks" for part in _BLOCKS]
    sizes = (name for name in size_names(config.architecture) if name not in depths)
    _check_same(source, config, ("N", "M", *sizes))
    for name in depths:
        found, wanted = getattr(source.config, name), getattr(config, name)
        if found > wanted:
            raise ValueError(
                f"{source.described}: {name} is {found}, the recipe says {wanted}: blocks can be "
                "added, not removed"
            )


def deepened(params: dict, config: Jvrc2026Config, key: jax.Array) -> dict:
    """Return parameters for `config` from those of a jvrc2026 with fewer blocks.

    New blocks are the identity: the model computes what it did.
    """
    wanted = jax.eval_shape(lambda key: init_params(key, config), key)
    if all(params[part].keys() == wanted[part].keys() for part in _BLOCKS):
        return params  # without a program to compile
    fresh = init_params(key, config)
    return params | {part: fresh[part] | params[part] for part in _BLOCKS}


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
