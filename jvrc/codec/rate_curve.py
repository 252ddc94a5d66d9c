"""Estimates of an image's bytes and PSNR for every quantisation step, before anything is quantised.

Scales sigma do not depend on Delta but for the rounding of z. So from one histogram of the scale
indices, at the finest step, follows that of any other; its bits are the entropies of the CDF tables
that it names. On two Kodak images jvrc2026 is within 15 % of that up to Delta = 4; coarser steps
take more, since means that come from coarser reconstructions are worse.

The distortion follows from the rate. The models are trained for R + lambda * 255^2 * MSE with
lambda = 0.18 / Delta^2 (jvrc.qstep), so at each Delta both terms change at the same pace:

    dR / d ln Delta = -lambda * d(255^2 * MSE) / d ln Delta,  and MSE of quantisation ~ Delta^2

What g_a and g_s lose by themselves is added. jvrc.codec.rate_control corrects these estimates by
what it measures; so they need not be exact.
"""

import numpy as np

from jvrc.codec.analysed import AnalysedImage
from jvrc.codec.coders import coder_of
from jvrc.codec.latents import quantise_z
from jvrc.codec.streams import z_bits
from jvrc.coding.tables import entropies
from jvrc.qstep import CODES_PER_OCTAVE, QSTEP_CODE_MAX, QSTEP_CODE_MIN, qstep_of, rd_lambda

CODES = np.arange(QSTEP_CODE_MIN, QSTEP_CODE_MAX + 1)
QSTEPS = np.array([qstep_of(int(code)) for code in CODES])

_CODES_PER_INDEX = 16  # of qstep, between two scale indices (jvrc.integer.hyper_synthesis)
_WORSE_MEANS = 40.0  # Delta at which coarse reconstructions double the bits of y, about
_TILE_BYTES = 40  # of a tile beside its streams, and the lanes' states
_TRANSFORM_MSE = 4.0  # 255^2 * MSE that g_a and g_s lose by themselves: 41 dB
_LEAST_EXPONENT = 1.1  # of Delta, by which the MSE of quantisation grows at coarse steps


class RateCurve:
    """Bits of y and z for every qstep code, as the model's scales let expect."""

    def __init__(self, analysed: AnalysedImage) -> None:
        """analysed: is asked for the latents of each tile once."""
        self._model, self._tiles = analysed.model, analysed.grid.count
        self._pixels = analysed.img.shape[0] * analysed.img.shape[1]
        entropy = entropies(self._model.y_tables)
        histogram = np.zeros(len(entropy))
        self._z_bits = np.zeros(len(self._model.z_steps))
        for number in range(self._tiles):
            y, z = analysed.latents(number)
            self._add_z(z)
            z_q = quantise_z(self._model, z, QSTEP_CODE_MIN)
            index = coder_of(self._model, z_q, QSTEP_CODE_MIN).scale_indices(y)
            histogram += np.bincount(index.ravel(), minlength=len(entropy))
        indices = np.arange(len(entropy))
        coarser = (CODES - QSTEP_CODE_MIN)[:, None] / _CODES_PER_INDEX
        bits = np.interp(indices - coarser, indices, entropy)  # [codes, indices]
        self._y_bits = bits @ histogram

    def file_bytes(self) -> np.ndarray:
        """Return the bytes of a file without metadata for each of CODES, float64."""
        worse = 1 + QSTEPS / _WORSE_MEANS
        z = self._z_bits[np.asarray(self._model.z_step_index)]
        return (worse * self._y_bits + z) / 8 + _TILE_BYTES * self._tiles

    def psnr(self) -> np.ndarray:
        """Return the PSNR in dB for each of CODES, float64."""
        pace = -np.gradient(self._y_bits, np.log(2) / CODES_PER_OCTAVE) / self._pixels
        mse = np.maximum(pace, 1e-9) / (2 * rd_lambda(QSTEPS))
        growth = _LEAST_EXPONENT / CODES_PER_OCTAVE
        steps = np.arange(len(mse)) * growth * np.log(2)
        mse = np.exp(np.maximum.accumulate(np.log(mse) - steps) + steps)
        return 10 * np.log10(255**2 / (_TRANSFORM_MSE + mse))

    def _add_z(self, z: np.ndarray) -> None:
        """Add the bits of a tile's z for each Delta_z."""
        of_code = np.asarray(self._model.z_step_index)
        for step in range(len(self._z_bits)):
            codes = np.flatnonzero(of_code == step)
            if codes.size:
                code = int(CODES[codes[0]])
                self._z_bits[step] += z_bits(self._model, quantise_z(self._model, z, code), code)
