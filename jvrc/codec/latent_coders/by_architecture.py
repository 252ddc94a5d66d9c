"""Which latent coder each architecture has."""

import numpy as np

from jvrc.codec.latent_coders.independent import IndependentCoder
from jvrc.codec.latent_coders.stepwise import StepwiseCoder
from jvrc.codec.latent_coders.wavefront import WavefrontCoder
from jvrc.codec.tiles.latent_coder import LatentCoder
from jvrc.frozen.model import FrozenModel
from jvrc.model import config

_CODERS = {
    config.ScaleHyperpriorConfig: IndependentCoder,
    config.MeanScaleHyperpriorConfig: IndependentCoder,
    config.JointAutoregressiveConfig: WavefrontCoder,
    config.Jvrc2026Config: StepwiseCoder,
}


def coder_of(model: FrozenModel, z_q: np.ndarray, qstep_code: int) -> LatentCoder:
    """Return the coder of y for an image whose z has the integers z_q, int32 [H/64,W/64,N]."""
    return _CODERS[type(model.config)](model, z_q, qstep_code)
