"""Rate control: the quantisation step at which a file meets a target of bytes or of PSNR.

g_a and h_a run once. The search begins at the step that estimates
(jvrc.codec.rate_control.rate_curve) give; then it measures real files, or for a PSNR target real
images (jvrc.codec.rate_control.trial), which correct the estimates
(jvrc.codec.rate_control.search). So the file that it returns meets the target whatever the encoder
does.
"""

import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from jvrc.codec.image.encoder import PLAIN, encode_analysed
from jvrc.codec.rate_control.rate_curve import (
    CODES,
    RateCurve,
    usual_code_of_bytes,
    usual_code_of_psnr,
)
from jvrc.codec.rate_control.search import Closeness, SearchResult, first_that_fits
from jvrc.codec.rate_control.shared_coders import SharedCoders
from jvrc.codec.rate_control.trial import Code, psnr_at
from jvrc.codec.tiles.analysed import AnalysedImage
from jvrc.codec.tiles.options import EncoderOptions
from jvrc.coding.container import Container
from jvrc.qstep import qstep_of

# In log(bytes) and dB. A step of the grid is 0.3 to 0.5 % of bytes, and about 0.03 dB.
_BYTES = Closeness(margin=0.003, enough=0.006, late=0.01)
_PSNR = Closeness(margin=0.05, enough=0.1, late=0.1)

_LOSSLESS = 200.0  # dB, that stand for the infinite PSNR of equal images

T = TypeVar("T")

Finish = Callable[[Container], bytes]  # makes the whole file of a coded image


def within_bytes(
    analysed: AnalysedImage,
    target: int,
    finish: Finish,
    options: EncoderOptions = PLAIN,
) -> bytes:
    """Return the file of the finest step that takes at most `target` bytes.

    Or of another within 1 % below the target. If the finest step of all takes less, that one's.

    Raises:
      ValueError: no step that was tried takes so few, the coarsest one among them.
    """
    options, wanted = options._replace(coder_of=SharedCoders()), max(target, 1)
    tried: list[tuple[int, int]] = []  # bytes and code: patches can make coarser steps take more
    curve = RateCurve(analysed, usual_code_of_bytes(analysed, wanted), options.coder_of)
    estimated = np.log(curve.file_bytes()) - np.log(wanted)

    def measure(code: int, effort: int) -> tuple[float, bytes]:
        data = finish(encode_analysed(analysed, code, options._replace(effort=effort)))
        tried.append((len(data), code))
        return float(np.log(len(data) / wanted)), data

    found = _search(measure, estimated, CODES, _BYTES, options.effort)
    if found.excess > 0:
        pixels = math.prod(analysed.img.shape[:2])
        least, code = min(tried)
        bpp = math.ceil(8e4 * least / pixels) / 1e4  # rounded up: as a target it can be reached
        raise ValueError(
            f"the target of {target} bytes ({8 * target / pixels:.4g} bpp) can't be reached: the "
            f"smallest file found has {least} bytes ({bpp:.4f} bpp), at qstep {qstep_of(code):.4g}"
        )
    return found.result


def with_psnr(
    analysed: AnalysedImage,
    target: float,
    pixels: np.ndarray,
    finish: Finish,
    options: EncoderOptions = PLAIN,
) -> bytes:
    """Return the file of the coarsest step with a PSNR of at least `target` dB.

    Or of another that exceeds the target by at most 0.1 dB. If the coarsest step of all exceeds it
    by more, that one's.

    pixels: what the PSNR is of, uint8 [h,w,3], or [h,w] of a grey image.

    Raises:
      ValueError: even the finest step has less.
    """
    options = options._replace(coder_of=SharedCoders())
    curve = RateCurve(analysed, usual_code_of_psnr(analysed, target), options.coder_of)
    estimated = target - curve.psnr()[::-1]
    tried: list[tuple[float, int]] = []  # dB and code

    def measure(code: int, effort: int) -> tuple[float, Code]:
        value, encode = psnr_at(analysed, code, pixels, options._replace(effort=effort))
        value = min(_LOSSLESS, value)
        tried.append((value, code))
        return target - value, encode

    found = _search(measure, estimated, CODES[::-1], _PSNR, options.effort)
    if found.excess > 0:
        most, code = max(tried)
        floor = math.floor(100 * most) / 100  # rounded down: as a target it can be reached
        raise ValueError(
            f"the target of {target:g} dB can't be reached: at most {floor:.2f} dB are possible, "
            f"at qstep {qstep_of(code):.4g}"
        )
    return finish(found.result())


def _search(
    measure: Callable[[int, int], tuple[float, T]],
    estimated: np.ndarray,
    codes: np.ndarray,
    closeness: Closeness,
    effort: int,
) -> SearchResult[T]:
    """Return the first of the codes that fits; with effort, searched without it before."""

    def at(effort: int) -> Callable[[int], tuple[float, T]]:
        return lambda place: measure(int(codes[place]), effort)

    found = first_that_fits(at(0), estimated, closeness)
    return first_that_fits(at(effort), found.corrected, closeness) if effort else found
