"""Back-projection: y corrected by what g_a makes of the image that g_s makes of it.

g_a is only roughly the inverse of g_s. What it sees in an image decoded without quantisation falls
short of what it saw in the original by

    d = y - g_a(g_s(y))

and y + d is decoded to a better image, as in iterative back-projection (Irani and Peleg 1991). The
decoder knows nothing of it. It pays where symbols are fine: those of a wide CDF table cost hardly
more bits for it, others might stop being zero. So the encoder adds a share of d to each sample of y
that grows with its scale index, at most Delta: that bounds the harm where a model does not know an
image. On six crops of 256x256 of training photographs that reduces J
(jvrc.codec.effort.objective) by 20, 10, 4 and 1.5 % of the rate at Delta = 0.8, 1.2, 1.8 and 2.7,
and by 0.4 % at most from 4 on. It doubles the time to encode: so it fades out from Delta = 2 to 3,
without a jump in the size of files. A second round of it gave no more.

Searches for better symbols (jvrc.codec.effort) go further, from y itself.
"""

import numpy as np

from jvrc.codec.tiles.scene import Scene
from jvrc.codec.transforms.latents import analyse_image, synthesise
from jvrc.frozen.model import FrozenModel
from jvrc.model.config import Config, Jvrc2026Config
from jvrc.qstep import qstep_code_of, qstep_of

_WHOLE, _GONE = qstep_code_of(2.0), qstep_code_of(3.0)  # steps between which it fades
_NONE, _ALL = 8, 24  # scale indices up to which nothing, and from which on all of d is added
_FINE = qstep_code_of(1.0)  # g_s of which step, where it knows steps: one d serves all


def pays(config: Config, qstep_code: int) -> bool:
    """Return whether y should be corrected at a step."""
    return isinstance(config, Jvrc2026Config) and qstep_code < _GONE


def correction(model: FrozenModel, scene: Scene) -> np.ndarray:
    """Return d of the tile of a scene, float32 [4h,4w,M]."""
    height, width = scene.img.shape[:2]
    decoded = synthesise(model, scene.y, _FINE)[:height, :width]
    return scene.tile_y - analyse_image(model, decoded)[scene.inner]


def corrected(y: np.ndarray, d: np.ndarray, index: np.ndarray, qstep_code: int) -> np.ndarray:
    """Return y with its share of d, each float32 [4h,4w,M]; index: scale indices, likewise."""
    share = np.clip((index.astype(np.float32) - _NONE) / (_ALL - _NONE), 0, 1)
    share *= np.float32(np.clip((_GONE - qstep_code) / (_GONE - _WHOLE), 0, 1))
    qstep = np.float32(qstep_of(qstep_code))
    return y + np.clip(share * d, -qstep, qstep)
