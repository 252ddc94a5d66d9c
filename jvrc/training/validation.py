"""The loss of a model on held-out images, by estimated bits."""

from collections.abc import Callable

import jax
import numpy as np

from jvrc.model.config import Config
from jvrc.training import objectives

VALIDATION_QSTEPS = (1.5, 3.0, 6.0, 12.0)  # the same for all runs, so that their losses compare


def make_validation(
    config: Config, crops: np.ndarray, qsteps: tuple[float, ...] = VALIDATION_QSTEPS
) -> Callable[[dict], dict]:
    """Return a function of the parameters that codes crops, uint8 [n,H,W,3], with rounded latents.

    It reports the loss (`objectives.balanced_mean`), and for each qstep the mean bpp and PSNR (dB).
    """
    groups = np.array_split(crops, max(1, len(crops) // 8))
    evaluate = jax.jit(
        lambda p, x, q: objectives.losses(config, p, x.astype(np.float32) / 255, q, None)
    )

    def at(params: dict, qstep: float) -> tuple[float, float, float]:
        parts = [evaluate(params, g, np.full(len(g), qstep, np.float32)) for g in groups]
        rd, bpp, mse = (np.concatenate([np.asarray(p[i]) for p in parts]) for i in range(3))
        loss = float(objectives.balanced_mean(rd, qstep))
        return loss, round(float(bpp.mean()), 4), round(float(-10 * np.log10(mse).mean()), 3)

    def validate(params: dict) -> dict:
        losses, bpp, psnr = zip(*(at(params, qstep) for qstep in qsteps), strict=True)
        loss = round(float(np.mean(losses)), 5)
        return {"loss": loss, "qstep": list(qsteps), "bpp": list(bpp), "psnr": list(psnr)}

    return validate
