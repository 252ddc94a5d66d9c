"""compress and decompress: whole images to bytes and back, with a frozen model.

    image -> g_a -> y -> h_a -> z -> round -> z stream
                    |              |
                    |              z^ -> h_s -> (scale index, mu)
                    v                            |
                    q = round((y - mu) / Delta) -+-> y stream

The decoder walks the lower half and ends with g_s. What lies between z^, y and the y stream depends
on the architecture and is a latent coder's (jvrc.codec.latent_coder). Whatever chooses the tables
of symbols is computed on integers on both sides, since one scale index that differs ruins the
stream: a stream decodes to the same integers on every machine.
"""

from typing import Any

import numpy as np

from jvrc.codec import rdoq
from jvrc.codec.coders import coder_of
from jvrc.codec.latent_coder import CoderOf, LatentCoder, Symbols
from jvrc.codec.latents import analyse_image, analyse_latents, blocks_of, quantise_z, synthesise
from jvrc.codec.streams import decode_z, encode_z
from jvrc.coding import container, scale_adaptation
from jvrc.coding.container import Container
from jvrc.errors import BitstreamError
from jvrc.frozen.model import FrozenModel
from jvrc.io.images import as_rgb_uint8
from jvrc.qstep import QSTEP_CODE_MAX, QSTEP_CODE_MIN, qstep_code_of


def compress(
    params: FrozenModel, img: Any, qstep: float, *, effort: int = 0, progress: bool = False
) -> bytes:
    """Compress an image.

    Args:
      params: a frozen model, from `jvrc.load`.
      img: uint8 [H,W,3] (NumPy or JAX) or a PIL image, any H, W >= 1.
      qstep: the quantisation step Delta, 0.5 (best image) … 32 (fewest bytes); it is snapped to a
        grid of 0.54 %.
      effort: 0 … 3. Above 0, rate-distortion-optimised quantisation of y (jvrc.codec.rdoq), with
        12, 40 or 120 passes through g_s and back, each about five times as long as decompressing.
        The image comes out no worse, by the loss that the model was trained for.
      progress: show a bar on stderr during that search.

    Returns:
      A whole file: `decompress` needs nothing else but the same model.

    Raises:
      ValueError: img, qstep or effort breaks one of these rules.
    """
    img, qstep_code = as_rgb_uint8(img), qstep_code_of(qstep)
    rdoq.check_effort(effort)
    _check_size(*img.shape[:2])
    packed = encode_image(params, img, qstep_code, effort=effort, progress=progress)
    return container.pack(packed)


def decompress(
    params: FrozenModel, data: bytes, *, max_pixels: int = container.MAX_PIXELS
) -> np.ndarray:
    """Restore an image.

    Args:
      params: the model that compressed it, from `jvrc.load`.
      data: what `compress` returned.
      max_pixels: refuse larger images, before anything big is allocated.

    Returns:
      uint8 [H,W,3].

    Raises:
      BitstreamError: data is damaged, truncated, foreign, too large or of another model.
    """
    return decode_image(params, container.unpack(data, max_pixels=max_pixels))


def encode_image(
    model: FrozenModel,
    img: np.ndarray,
    qstep_code: int,
    *,
    effort: int = 0,
    progress: bool = False,
    coder_of: CoderOf = coder_of,
) -> Container:
    """Return the coded image, uint8 [h,w,3]: `compress` without its checks, with any coder of y."""
    z_q, symbols, coder = quantise_image(model, img, qstep_code, coder_of=coder_of)
    if effort:
        symbols = rdoq.optimise(coder, img, symbols, effort=effort, progress=progress)
    index_shift = scale_adaptation.choose(symbols.y, symbols.index, model.y_tables)
    return Container(
        model_id=model.model_id,
        height=img.shape[0],
        width=img.shape[1],
        qstep_code=qstep_code,
        scale_adapted=bool(index_shift.any()),
        z=encode_z(model, z_q, index_shift, qstep_code),
        y=coder.encode(symbols, index_shift),
    )


def decode_image(
    model: FrozenModel, coded: Container, *, coder_of: CoderOf = coder_of
) -> np.ndarray:
    """Return the image, uint8 [h,w,3], that `encode_image` coded; BitstreamError if damaged."""
    _, symbols, coder = _decode(model, coded, coder_of)
    img = synthesise(model, coder.reconstruct(symbols), coded.qstep_code)
    return img[: coded.height, : coded.width]


def quantise_image(
    model: FrozenModel, img: np.ndarray, qstep_code: int, *, coder_of: CoderOf = coder_of
) -> tuple[np.ndarray, Symbols, LatentCoder]:
    """Return (integers of z int32 [H/64,W/64,N], symbols of y, the coder of y) of uint8 [h,w,3]."""
    y = analyse_image(model, img)
    z_q = quantise_z(model, analyse_latents(model, y), qstep_code)
    coder = coder_of(model, z_q, qstep_code)
    return z_q, coder.quantise(y), coder


def decode_symbols(params: FrozenModel, data: bytes) -> tuple[np.ndarray, Symbols]:
    """Return (integers of z, symbols of y) of a stream, the same on every machine.

    Raises:
      BitstreamError: as in `decompress`.
    """
    return _decode(params, container.unpack(data), coder_of)[:2]


def _decode(
    model: FrozenModel, coded: Container, coder_of: CoderOf
) -> tuple[np.ndarray, Symbols, LatentCoder]:
    _check_header(model, coded)
    z_q, index_shift = decode_z(model, coded, blocks_of(coded.height, coded.width))
    coder = coder_of(model, z_q, coded.qstep_code)
    return z_q, coder.decode(coded.y, index_shift), coder


def _check_size(height: int, width: int) -> None:
    if container.coded_pixels(height, width) > container.MAX_PIXELS:
        raise ValueError(
            f"img must have at most {container.MAX_PIXELS} pixels, padded to multiples of "
            f"{container.BLOCK}, got {height} x {width}; compress it in parts"
        )


def _check_header(model: FrozenModel, coded: Container) -> None:
    if coded.model_id != model.model_id:
        raise BitstreamError(
            f"the stream was made with model {coded.model_id}, this is {model.model_id}: "
            "load the model that made it"
        )
    if not QSTEP_CODE_MIN <= coded.qstep_code <= QSTEP_CODE_MAX:
        raise BitstreamError(f"damaged stream: there is no qstep code {coded.qstep_code}")
