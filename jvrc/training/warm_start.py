"""Where training begins: parameters of an earlier run or of a frozen model."""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jvrc.frozen import zoo
from jvrc.frozen.model import FrozenModel
from jvrc.model import context, hyperprior, transforms
from jvrc.model.config import Config
from jvrc.model.hyperprior import with_scales
from jvrc.model.modules import init_params
from jvrc.training import objectives
from jvrc.training.klt_scales import klt_config
from jvrc.training.recipe_files import with_present_names
from jvrc.training.run_folder import load_run

Crops = Callable[[], np.ndarray]


def read_source(source: str | Path) -> tuple[Config, dict, str]:
    """(config, parameters in its scales, a line for the record) of a run or a model.

    A model (a shipped one's name, or a weights file) has all scales at one; its parameters get back
    those in which it was trained.

    Raises:
      ValueError: no such thing.
    """
    if Path(source).is_dir():
        run = load_run(source)
        return run.config, run.params, f"run {Path(source).name}, step {run.step}"
    model = zoo.load(source)
    scales = _training_scales(model)
    config, params = with_scales(model.config, jax.tree.map(jnp.asarray, model.params), **scales)
    return config, params, f"model {model.model_id}"


def params_from(
    source: str | Path, config: Config, crops: Crops | None = None, *, seed: int = 0
) -> tuple[dict, str]:
    """(parameters in the scales of `config`, a line for the record) of a run or a model.

    From another architecture come the parts that both have (see `grafted`); what a context model
    begins with is fitted to crops() [n,H,W,3] in [0,1], asked for only then.

    Raises:
      ValueError: the source is of another size than `config`, or no such thing.
    """
    found, params, described = _read_in_scales(source, config, ("N", "M", "log_scale"))
    if found.architecture != config.architecture:
        params = grafted(params, config, jax.random.key(seed), crops)
        described += f" ({found.architecture})"
    return params, described


def transforms_from(source: str | Path, config: Config) -> tuple[dict, str]:
    """(g_a and g_s in the scales of `config`, a line for the record), of any architecture.

    An entropy model of the same latents, or nearly, keeps up when it is trained with them.

    Raises:
      ValueError: the source is of another N or M than `config`, or no such thing.
    """
    _, params, described = _read_in_scales(source, config, ("N", "M"))
    return {name: params[name] for name in objectives.TRANSFORMS}, described


def _read_in_scales(
    source: str | Path, config: Config, same: tuple[str, ...]
) -> tuple[Config, dict, str]:
    """`read_source`, in the scales of `config`, whose fields `same` must be those found."""
    found, params, described = read_source(source)
    for name in same:
        if getattr(found, name) != getattr(config, name):
            raise ValueError(
                f"{source}: {name} is {getattr(found, name)!r}, "
                f"the recipe says {getattr(config, name)!r}: set its {name.lower()} to that"
            )
    scales = {"latent_scale": config.latent_scale, "hyper_scale": config.hyper_scale}
    return *with_scales(found, params, **scales), described


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
        z = hyperprior.analyse(config, params, x).z
        return transforms.hyper_layers(config, params["h_s"], jnp.round(z))[-1].min((0, 1, 2))

    return 1.0 - 1.2 * jnp.minimum(0.0, jnp.min(jnp.stack([lowest(x[None]) for x in crops]), 0))


def _training_scales(model: FrozenModel) -> dict[str, float]:
    """Those that its header's recipe states; one (the literature's) where it states none."""
    recipe = model.metadata.get("recipe")
    recipe = with_present_names(recipe) if isinstance(recipe, dict) else {}
    if recipe.get("initialisation") == "klt":
        config = klt_config(model.config)
        return {"latent_scale": config.latent_scale, "hyper_scale": config.hyper_scale}
    return {name: float(recipe.get(name, 1.0)) for name in ("latent_scale", "hyper_scale")}
