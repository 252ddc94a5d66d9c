"""The extremes of what a model predicts: log sigma and the means, over photographs and other tiles.

On photographs log sigma of a sane jvrc2026 stays within about -5.3 ... 7, and on text or dither not
far outside. A model that never saw such tiles gives them a log sigma of tens of thousands.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jvrc.model import architectures, context, hyperprior, jvrc2026, stepwise, transforms
from jvrc.model.config import Config, Jvrc2026Config
from jvrc.training.data import batches
from jvrc.training.validation import held_out

QSTEPS = (1.0, 6.0)
_TOGETHER = 8  # images


class Extremes(NamedTuple):
    """The lowest and the highest value of each prediction."""

    log_sigma: tuple[float, float]
    mean: tuple[float, float]  # in units of the latents


def predictions(config: Config, params: dict, x: Array, qstep: Array) -> tuple[Array, Array]:
    """Return (log sigma, means), [B,H/16,W/16,M] each, for images x in [0,1] at qstep [B].

    Latents are rounded and reconstructed without offsets.
    """
    y, z = architectures.analyse(config, params, x)
    step = qstep[:, None, None, None]
    z_hat, _ = hyperprior.quantised_z(params, z, step, None)
    psi = transforms.hyper_layers(config, params["h_s"], z_hat)[-1]
    if isinstance(config, Jvrc2026Config):

        def reconstruct(mu: Array) -> tuple[Array, Array]:
            return mu + step * jnp.round((y - mu) / step), mu

        first, features = psi[..., config.M :], jvrc2026.features_of(params, qstep)
        mu = stepwise.in_steps(config, params["context"], first, features, reconstruct)[1]
        return psi[..., : config.M], mu
    if config.has_context:
        known = context.features(config, params["context"], y, step)
        sigma, mu = context.entropy_parameters(config, params["entropy_parameters"], psi, known)
    else:
        sigma, mu = transforms.split_parameters(config, psi)
    if config.log_scale and not config.has_context:
        return psi[..., : config.M], mu  # not bounded
    return jnp.log(jnp.maximum(sigma, 1e-9)), mu


def extremes(
    config: Config, params: dict, images: np.ndarray, qsteps: Sequence[float] = QSTEPS
) -> Extremes:
    """Return the extremes over images, uint8 [n,H,W,3], at each qstep."""
    size = min(_TOGETHER, len(images))
    ends = [
        ends_of(config, params, group.astype(np.float32) / 255, np.full(size, qstep, np.float32))
        for qstep in qsteps
        for group in held_out.groups(images, size)
    ]
    low, high = np.min(ends, 0)[:, 0], np.max(ends, 0)[:, 1]
    return Extremes(*((float(a), float(b)) for a, b in zip(low, high, strict=True)))


@partial(jax.jit, static_argnums=0)
def ends_of(config: Config, params: dict, x: Array, qstep: Array) -> Array:
    """Return the lowest and the highest of each of `predictions`: [2,2]."""
    found = predictions(config, params, x, qstep)
    return jnp.stack([jnp.stack([jnp.min(a), jnp.max(a)]) for a in found])


def described(config: Config, params: dict, photos: Sequence[np.ndarray]) -> list[str]:
    """Return a line for photographs, by the centres of some, and one for other tiles."""
    kinds = {
        "photographs": batches.centres(photos),
        "other tiles": held_out.unnatural_tiles(photos),
    }
    return [
        f"{name}: log sigma {found.log_sigma[0]:.1f} ... {found.log_sigma[1]:.1f}, "
        f"means {found.mean[0]:.0f} ... {found.mean[1]:.0f}"
        for name, found in ((n, extremes(config, params, x)) for n, x in kinds.items())
    ]
