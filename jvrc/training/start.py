"""Where training begins: parameters of an earlier run or of a frozen model.

May import: frozen, training.loop.
"""

from pathlib import Path

import jax
import jax.numpy as jnp

from jvrc import frozen
from jvrc.model.architectures import with_scales
from jvrc.model.config import Config
from jvrc.training import loop


def params_from(source: str | Path, config: Config) -> tuple[dict, str]:
    """(parameters in the scales of `config`, a line for the record) of a run or a weights file.

    Raises:
      ValueError: the source is another architecture or size than `config`, or no such thing.
    """
    if Path(source).is_dir():
        run = loop.load_run(source)
        found, params = run.config, run.params
        described = f"run {Path(source).name}, step {run.step}"
    else:
        model = frozen.read(source)
        found, params = model.config, model.params
        described = f"model {model.model_id}"
    for name in ("architecture", "N", "M", "log_scale"):
        if getattr(found, name) != getattr(config, name):
            raise ValueError(
                f"{source}: {name} is {getattr(found, name)!r}, "
                f"the recipe says {getattr(config, name)!r}"
            )
    scales = {"latent_scale": config.latent_scale, "hyper_scale": config.hyper_scale}
    return with_scales(found, jax.tree.map(jnp.asarray, params), **scales)[1], described
