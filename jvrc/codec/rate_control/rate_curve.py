"""Estimates of an image's bytes and PSNR for every quantisation step, before anything is quantised.

Scales sigma do not depend on Delta but for the rounding of z. So from one histogram of the scale
indices, at the finest step, follows that of any other; its bits are the entropies of the CDF tables
that it names. On two Kodak images jvrc2026 is within 15 % of that up to Delta = 4; coarser steps
take more, since means that come from coarser reconstructions are worse.

From the same histogram follows the squared error E of y: that of rounding, Delta^2 / 12, or, where
it is less, the variance of what is rounded to zero. The image's is taken for

    255^2 * MSE = T + G * E

where T, what g_a and g_s lose by themselves, follows from the detail in the pixels
(jvrc.codec.tiles.block_statistics), and G, the gain of g_s, from the rate: the models are trained
for R + lambda * 255^2 * MSE with lambda = 0.18 / Delta^2 (jvrc.qstep), so at each Delta both terms
change at the same pace:

    dR / d ln Delta = -lambda * G * dE / d ln Delta

jvrc.codec.rate_control.qstep_choice corrects these estimates by what it measures; so they need not
be exact. On the 14 photographs by which the constants below were set, the PSNR is 0.9 dB off, root
mean square.
"""

import numpy as np

from jvrc.codec.tiles.analysed import AnalysedImage
from jvrc.codec.tiles.latent_coder import CoderOf
from jvrc.codec.tiles.streams import z_bits
from jvrc.codec.transforms.latents import quantise_z
from jvrc.coding.tables import entropies
from jvrc.integer.hyper_synthesis import scale_table
from jvrc.model.config import HyperpriorConfig
from jvrc.qstep import (
    CODES_PER_OCTAVE,
    QSTEP_CODE_MAX,
    QSTEP_CODE_MIN,
    qstep_code_of,
    qstep_of,
    rd_lambda,
)

CODES = np.arange(QSTEP_CODE_MIN, QSTEP_CODE_MAX + 1)
QSTEPS = np.array([qstep_of(int(code)) for code in CODES])

_CODES_PER_INDEX = 16  # of qstep, between two scale indices (jvrc.integer.hyper_synthesis)
_WORSE_BITS, _WORSE_ERROR = 40.0, 20.0  # Delta at which coarse reconstructions double bits and E
_TILE_BYTES = 40  # of a tile beside its streams, and the lanes' states
_DEVIATION = 0.894  # of y / sigma
_DEAD_ERROR = 0.0025  # E / Delta^2 of the scale index 0
_LEAST_LOSS = 1.5  # T of an image without detail
_LOST, _LOST_2018 = 0.085, 0.21  # of the detail, what jvrc2026 and the models of 2018 lose
_GAIN = 0.75  # of G by the rate: measured G are less
_GAIN_CODES = slice(qstep_code_of(1.0) - QSTEP_CODE_MIN, qstep_code_of(8.0) - QSTEP_CODE_MIN)


class RateCurve:
    """Bytes and PSNR for every qstep code, as the model's scales let expect."""

    def __init__(self, analysed: AnalysedImage, qstep_code: int, coder_of: CoderOf) -> None:
        """analysed: is asked for each tile once. qstep_code: of the z^ that tells the scales."""
        self._analysed, self._model = analysed, analysed.model
        self._pixels = analysed.img.shape[0] * analysed.img.shape[1]
        entropy = entropies(self._model.y_tables)
        self._histogram = np.zeros(len(entropy))
        self._z_bits = np.zeros(len(self._model.z_steps))
        for number in range(analysed.grid.count):
            y, z = analysed.latents(number)
            self._add_z(z)
            coder = coder_of(self._model, quantise_z(self._model, z, qstep_code), qstep_code)
            index = coder.at(QSTEP_CODE_MIN).scale_indices(y)
            self._histogram += np.bincount(index.ravel(), minlength=len(entropy))
        indices = np.arange(len(entropy))
        bits = np.interp(indices - _COARSER, indices, entropy)  # [codes, indices]
        self._y_bits = bits @ self._histogram

    def file_bytes(self) -> np.ndarray:
        """Return the bytes of a file without metadata for each of CODES, float64."""
        z = self._z_bits[np.asarray(self._model.z_step_index)]
        return (
            (1 + QSTEPS / _WORSE_BITS) * self._y_bits + z
        ) / 8 + _TILE_BYTES * self._analysed.grid.count

    def psnr(self) -> np.ndarray:
        """Return the PSNR in dB for each of CODES, float64."""
        error = (_squared_errors() @ self._histogram) / self._pixels
        rate = self._y_bits / self._pixels
        gains = _pace(rate) / (-rd_lambda(QSTEPS) * _pace(error))
        gain = _GAIN * np.exp(np.mean(np.log(np.maximum(gains[_GAIN_CODES], 1e-9))))
        return 10 * np.log10(255**2 / (self._transform_loss() + gain * error))

    def _transform_loss(self) -> float:
        """Return about 255^2 * MSE of what g_a and g_s lose by themselves."""
        of_2018 = isinstance(self._model.config, HyperpriorConfig)
        lost = _LOST_2018 if of_2018 else _LOST
        return _LEAST_LOSS + lost * _detail(self._analysed)

    def _add_z(self, z: np.ndarray) -> None:
        """Add the bits of a tile's z for each Delta_z."""
        of_code = np.asarray(self._model.z_step_index)
        for step in range(len(self._z_bits)):
            codes = np.flatnonzero(of_code == step)
            if codes.size:
                code = int(CODES[codes[0]])
                self._z_bits[step] += z_bits(self._model, quantise_z(self._model, z, code), code)


def usual_code_of_bytes(analysed: AnalysedImage, target: int) -> int:
    """Return the qstep code at which images like this one take about so many bytes."""
    bpp = 8 * target / (analysed.img.shape[0] * analysed.img.shape[1])
    return _code_near(0.96 - 0.62 * np.log2(bpp))  # fitted to the same photographs


def usual_code_of_psnr(analysed: AnalysedImage, target: float) -> int:
    """Return the qstep code at which images like this one have about so many dB."""
    # fitted likewise; 0.4 octaves off, root mean square
    return _code_near(16.4 - 0.35 * target - 0.48 * np.log2(max(_detail(analysed), 1.0)))


def _code_near(log_qstep: float) -> int:
    """Return the qstep code next to log2 Delta."""
    return int(np.clip(np.rint(CODES_PER_OCTAVE * log_qstep), QSTEP_CODE_MIN, QSTEP_CODE_MAX))


def _detail(analysed: AnalysedImage) -> float:
    """Return an image's detail (jvrc.codec.tiles.block_statistics), averaged over its pixels."""
    seen = [analysed.statistics(number) for number in range(analysed.grid.count)]
    total = sum(float(np.sum(s.detail * s.pixels)) for s in seen)
    return total / (analysed.img.shape[0] * analysed.img.shape[1])


_COARSER = (CODES - QSTEP_CODE_MIN)[:, None] / _CODES_PER_INDEX  # in scale indices, [codes,1]


def _squared_errors() -> np.ndarray:
    """Return E of a latent for each of CODES and each scale index at the finest step.

    About min(Delta^2 / 12, variance): both to the power -3/2 are added, which is within 7 %.
    """
    finest = QSTEPS[0] * scale_table()  # sigma of each index
    variance = np.square(_DEVIATION * finest)
    rounding = np.square(QSTEPS)[:, None] / 12
    error = (rounding**-1.5 + variance**-1.5) ** (-1 / 1.5)
    error[:, 0] = _DEAD_ERROR * QSTEPS[0] ** 2
    return error * (1 + QSTEPS[:, None] / _WORSE_ERROR)


def _pace(x: np.ndarray) -> np.ndarray:
    """Return dx / d ln Delta of x for each of CODES."""
    return np.gradient(x, np.log(2) / CODES_PER_OCTAVE)
