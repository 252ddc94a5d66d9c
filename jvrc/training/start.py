"""Where training begins: parameters of an earlier run or of a frozen model.

May import: frozen, training.loop, training.pyramid.
"""

from pathlib import Path

import jax
import jax.numpy as jnp

from jvrc import frozen
from jvrc.model.architectures import with_scales
from jvrc.model.config import Config
from jvrc.training import loop, pyramid


def read_source(source: str | Path) -> tuple[Config, dict, str]:
    """(config, parameters in its scales, a line for the record) of a run or a weights file.

    A weights file has all scales at one; its parameters get back those in which it was trained.

    Raises:
      ValueError: no such thing.
    """
    if Path(source).is_dir():
        run = loop.load_run(source)
        return run.config, run.params, f"run {Path(source).name}, step {run.step}"
    model = frozen.read(source)
    scales = _training_scales(model)
    config, params = with_scales(model.config, jax.tree.map(jnp.asarray, model.params), **scales)
    return config, params, f"model {model.model_id}"


def params_from(source: str | Path, config: Config) -> tuple[dict, str]:
    """(parameters in the scales of `config`, a line for the record) of a run or a weights file.

    Raises:
      ValueError: the source is another architecture or size than `config`, or no such thing.
    """
    found, params, described = read_source(source)
    for name in ("architecture", "N", "M", "log_scale"):
        if getattr(found, name) != getattr(config, name):
            raise ValueError(
                f"{source}: {name} is {getattr(found, name)!r}, "
                f"the recipe says {getattr(config, name)!r}"
            )
    scales = {"latent_scale": config.latent_scale, "hyper_scale": config.hyper_scale}
    return with_scales(found, params, **scales)[1], described


def _training_scales(model: frozen.FrozenModel) -> dict[str, float]:
    """Those that its header's recipe states; one (the literature's) where it states none."""
    recipe = model.metadata.get("recipe")
    recipe = recipe if isinstance(recipe, dict) else {}
    if recipe.get("start") == "pyramid":
        config = pyramid.pyramid_config(model.config)
        return {"latent_scale": config.latent_scale, "hyper_scale": config.hyper_scale}
    return {name: float(recipe.get(name, 1.0)) for name in ("latent_scale", "hyper_scale")}
