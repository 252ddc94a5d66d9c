"""Coders of the tiles of one image at many steps: h_s runs once for each z^ that is held."""

import numpy as np

from jvrc.codec.latent_coders.by_architecture import coder_of
from jvrc.codec.tiles.latent_coder import LatentCoder
from jvrc.codec.transforms.latents import dequantise_z
from jvrc.frozen.model import FrozenModel
from jvrc.qstep import qstep_row

MOST = 8  # coders that are held, of at most 10 MB each


class SharedCoders:
    """Is a jvrc.codec.tiles.latent_coder.CoderOf; z^ is the same over a range of steps."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, tuple[int, ...], bytes], LatentCoder] = {}

    def __call__(self, model: FrozenModel, z_q: np.ndarray, qstep_code: int) -> LatentCoder:
        """Return the coder of y for the integers of z."""
        z_step = int(np.asarray(model.z_step_index)[qstep_row(qstep_code)])
        key = z_step, z_q.shape, dequantise_z(model, z_q, qstep_code).tobytes()
        if key not in self._known:
            if len(self._known) == MOST:
                del self._known[self._least_needed(z_step)]
            self._known[key] = coder_of(model, z_q, qstep_code)
        return self._known[key].at(qstep_code)  # a copy: what it remembers goes with it

    def _least_needed(self, z_step: int) -> tuple:
        """Return the key to drop: one of another z step, else the newest.

        Tiles are asked for in turn, so the oldest one is needed next.
        """
        others = (key for key in self._known if key[0] != z_step)
        return next(others, next(reversed(self._known)))
