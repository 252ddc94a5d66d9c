"""compress and decompress: whole pictures to bytes and back, with a frozen model.

    picture -> g_a -> y -> h_a -> z -> round -> z stream
                      |              |
                      |              z^ -> h_s -> (scale index, mu)
                      v                            |
                      q = round((y - mu) / Delta) -+-> y stream

The decoder walks the lower half and ends with g_s. Scale indices, shifted for each channel as suits
the image (jvrc.coding.scale_adaptation), choose the tables of y. Both sides compute (scale index,
mu) on integers (jvrc.integer), since one index that differs ruins the stream: a stream decodes
to the same integers on every machine. The transforms of pictures are float; they are computed in
full float32 whatever JAX's default precision is, and another machine's rounding changes a pixel of
an encoded picture by one at most (measured, see tests/codec/test_golden.py).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jvrc.codec import rdoq, wavefront
from jvrc.codec.tiling import BLOCK, map_tiles
from jvrc.coding import container, escapes, range_coder, scale_adaptation, tables
from jvrc.errors import BitstreamError
from jvrc.frozen.model import OFFSET_UNIT, FrozenModel
from jvrc.integer import context as integer_context
from jvrc.integer import hyper_synthesis
from jvrc.io.images import as_rgb_uint8
from jvrc.model import transforms, variable_rate
from jvrc.model.config import Config
from jvrc.qstep import QSTEP_CODE_MAX, QSTEP_CODE_MIN, qstep_code_of, qstep_of, rd_lambda

# How far the transforms look around, in blocks of 64 pixels, rounded up: g_a 30 pixels, h_a 7
# samples of y, h_s 1.75 samples of z, g_s 1.9 samples of y.
_MARGIN_PIXELS, _MARGIN_HYPER = 1, 2
# Searches for y of mbt2018, after each of which sigma and mu follow anew: they move with y.
_CONTEXT_ROUNDS = 3
_full_precision = partial(jax.default_matmul_precision, "highest")  # no bfloat16 or TF32 products


def compress(
    params: FrozenModel, img: Any, qstep: float, *, effort: int = 0, progress: bool = False
) -> bytes:
    """Compresses a picture.

    Args:
      params: a frozen model, from `jvrc.load`.
      img: uint8 [H,W,3] (NumPy or JAX) or a PIL picture, any H, W >= 1.
      qstep: the quantisation step Delta, 0.5 (best picture) … 32 (fewest bytes); it is snapped to
        a grid of 0.54 %.
      effort: 0 … 3. Above 0, searches for better integers of y than the nearest ones (see
        jvrc.codec.rdoq), with 12, 40 or 120 passes through g_s and back, each about five times as
        long as decompressing. The picture comes out no worse, by the loss that the model was
        trained for.
      progress: show a bar on stderr while searching.

    Returns:
      A whole file: `decompress` needs nothing else but the same model.

    Raises:
      ValueError: img, qstep or effort breaks one of these rules.
    """
    img = as_rgb_uint8(img)
    code = qstep_code_of(qstep)
    _check_effort(effort)
    height, width = img.shape[:2]
    if container.coded_pixels(height, width) > container.MAX_PIXELS:
        raise ValueError(
            f"img must have at most {container.MAX_PIXELS} pixels, padded to multiples of {BLOCK}, "
            f"got {height} x {width}; compress it in parts"
        )
    latents = quantise(params, *analyse(params, img), code)
    if effort:
        latents = _refined(params, img, latents, code, effort, progress)
    by, table = _fitted_tables(params, latents)
    y, table = (_in_order(params, a) for a in (latents.y, table))
    packed = container.Container(
        model_id=params.model_id,
        height=height,
        width=width,
        qstep_code=code,
        scale_adapted=bool(by.any()),
        z=_encode_z(params, latents.z, by, code),
        y=_encode_stream(y.ravel(), table.ravel(), params.y_tables),
    )
    return container.pack(packed)


class Latents(NamedTuple):
    """The integers that a file holds, and what h_s makes of z."""

    z: np.ndarray  # int32 [H/64,W/64,N]
    y: np.ndarray  # int32 [H/16,W/16,M]
    index: np.ndarray  # uint8 [H/16,W/16,M], scale index: it selects the table of y
    mu: np.ndarray  # float32 [H/16,W/16,M]


def analyse(params: FrozenModel, img: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """y [H/16,W/16,M] and z [H/64,W/64,N], float32, of a picture, uint8 [H,W,3], padded."""
    config, p = params.config, params.params
    blocks = _blocks(*img.shape[:2])

    def analysis(tile: np.ndarray, valid: np.ndarray) -> tuple[Array]:
        return (_g_a(config, p["g_a"], tile, valid),)

    def hyper_analysis(tile: np.ndarray, valid: np.ndarray) -> tuple[Array]:
        return (_h_a(config, p["h_a"], tile, valid),)

    (y,) = map_tiles(analysis, (_pad(img, blocks),), blocks, _MARGIN_PIXELS)
    (z,) = map_tiles(hyper_analysis, (y,), blocks, _MARGIN_HYPER)
    return y, z


def quantise(params: FrozenModel, y: np.ndarray, z: np.ndarray, code: int) -> Latents:
    """The integers for latents that `analyse` gave, at the step of `code`."""
    z_q = round_z(params, z, code)
    if params.config.has_context:
        (symbols,) = wavefront.encode(params, [y], [_psi(params, z_q, code)], [code])
        return Latents(z_q, *symbols)
    index, mu = _entropy_parameters(params, z_q, code)
    return Latents(z_q, _to_int((y - mu) / np.float32(qstep_of(code))), index, mu)


def _check_effort(effort: int) -> None:
    last = len(rdoq.PASSES) - 1
    whole = isinstance(effort, int | np.integer) and not isinstance(effort, bool)
    if not whole or not 0 <= effort <= last:
        raise ValueError(f"effort must be an integer in 0 … {last}; got {effort!r}")


def _refined(
    params: FrozenModel, img: np.ndarray, latents: Latents, code: int, effort: int, progress: bool
) -> Latents:
    """Latents with better integers of y, or the same if none are found."""
    psi = _psi(params, latents.z, code) if params.config.has_context else None
    rounds = 1 if psi is None else _CONTEXT_ROUNDS
    passes = rdoq.PASSES[effort] // rounds
    tried = [latents]
    for _ in range(rounds):
        last = tried[-1]
        _, table = _fitted_tables(params, last)
        y = rdoq.refine(params, img, last[1:], table, code, passes=passes, progress=progress)
        found = last._replace(y=y)
        tried.append(found if psi is None else _consistent(params, found, psi, code))
    return min(tried, key=lambda found: _cost(params, img, found, code))


def _consistent(params: FrozenModel, latents: Latents, psi: np.ndarray, code: int) -> Latents:
    """Latents of y^ near those given, with the index and mu that their own context gives."""
    qstep, delta = np.float32(qstep_of(code)), params.delta(latents.index, code)
    y_hat = variable_rate.reconstruct(latents.y.astype(np.float32), latents.mu, qstep, delta)
    (symbols,) = wavefront.encode(params, [np.asarray(y_hat)], [psi], [code])
    return Latents(latents.z, *symbols)


def _cost(params: FrozenModel, img: np.ndarray, latents: Latents, code: int) -> float:
    """Bits of y, by its tables, and the distortion of what a decoder makes of it."""
    table = _fitted_tables(params, latents)[1].ravel()
    symbols, escaped = tables.to_symbols(latents.y.ravel(), table, params.y_tables)
    bits = tables.ideal_bits(symbols, table, params.y_tables) + 8 * len(
        escapes.pack_escapes(escaped)
    )
    restored = _synthesise(params, latents, code)[: img.shape[0], : img.shape[1]]
    error = np.mean(np.square(restored.astype(np.int32) - img), axis=2, dtype=np.float64)
    return bits + rd_lambda(qstep_of(code)) * float(error.sum())


def round_z(params: FrozenModel, z: np.ndarray, code: int) -> np.ndarray:
    """The integers, int32, of z [...,N] at the step of `code`."""
    medians, z_step = _z_grid(params, code)
    return _to_int((z * np.float32(2.0**-hyper_synthesis.Z_EXPONENT) - medians) / z_step)


def hyper_latents(params: FrozenModel, z_q: np.ndarray, code: int) -> np.ndarray:
    """z^ int32, in units of 1/16 and saturated, from its integers [...,N] at the step of `code`."""
    medians, z_step = _z_grid(params, code)
    z_hat = medians + z_step * z_q.astype(np.int64)
    return np.clip(z_hat, -hyper_synthesis.Z_MAX, hyper_synthesis.Z_MAX).astype(np.int32)


def decompress(
    params: FrozenModel, data: bytes, *, max_pixels: int = container.MAX_PIXELS
) -> np.ndarray:
    """Restores a picture.

    Args:
      params: the model that compressed it, from `jvrc.load`.
      data: what `compress` returned.
      max_pixels: refuse larger pictures, before anything big is allocated.

    Returns:
      uint8 [H,W,3].

    Raises:
      BitstreamError: data is damaged, truncated, foreign, too large or of another model.
    """
    stream = container.unpack(data, max_pixels=max_pixels)
    code = _check_header(params, stream)
    padded = _synthesise(params, _decode_latents(params, stream), code)
    return padded[: stream.height, : stream.width]


def decode_latents(params: FrozenModel, data: bytes) -> Latents:
    """The integers of a stream, the same on every machine; BitstreamError as in `decompress`."""
    stream = container.unpack(data)
    _check_header(params, stream)
    return _decode_latents(params, stream)


def _decode_latents(params: FrozenModel, stream: container.Container) -> Latents:
    code = stream.qstep_code
    z_q, by = _decode_z(params, stream)
    if params.config.has_context:
        (symbols,) = wavefront.decode(params, [stream.y], [_psi(params, z_q, code)], [code], [by])
        return Latents(z_q, *symbols)
    index, mu = _entropy_parameters(params, z_q, code)
    table = _tables_of_y(params, index, by)
    y_q = _decode_stream(stream.y, table.ravel(), params.y_tables).reshape(index.shape)
    return Latents(z_q, y_q, index, mu)


def _encode_z(params: FrozenModel, z: np.ndarray, by: np.ndarray, code: int) -> container.Stream:
    """The stream of z's integers [H/64,W/64,N] and, unless all are 0, of the shifts [M]."""
    shifted = bool(by.any())
    values = np.concatenate([z.ravel(), by]) if shifted else z.ravel()
    return _encode_stream(values, *_z_tables(params, code, z.shape[:2], shifted))


def _decode_z(params: FrozenModel, stream: container.Container) -> tuple[np.ndarray, np.ndarray]:
    """(integers of z [H/64,W/64,N], shifts of the tables of y [M]), int32."""
    blocks = _blocks(stream.height, stream.width)
    expected = _z_tables(params, stream.qstep_code, blocks, stream.scale_adapted)
    values = _decode_stream(stream.z, *expected)
    by = values[-params.config.M :] if stream.scale_adapted else np.zeros(params.config.M, np.int32)
    return values[: blocks[0] * blocks[1] * params.config.N].reshape(*blocks, -1), by


def _fitted_tables(params: FrozenModel, latents: Latents) -> tuple[np.ndarray, np.ndarray]:
    """(the shifts that suit y best, int32 [M], the tables of its symbols that they give)."""
    by = scale_adaptation.choose(latents.y, latents.index, params.y_tables)
    return by, _tables_of_y(params, latents.index, by)


def _tables_of_y(params: FrozenModel, index: np.ndarray, by: np.ndarray) -> np.ndarray:
    """The table, uint8 [h,w,M], of each symbol of y, from scale indices and shifts [M]."""
    return scale_adaptation.apply(index, by, len(params.y_tables.low))


def _in_order(params: FrozenModel, a: np.ndarray) -> np.ndarray:
    """The samples [h,w,M] in the order in which they are coded: [h*w,M]."""
    flat = a.reshape(-1, a.shape[2])
    return flat[wavefront.order(*a.shape[:2])] if params.config.has_context else flat


def _check_header(params: FrozenModel, stream: container.Container) -> int:
    if stream.model_id != params.model_id:
        raise BitstreamError(
            f"the stream was made with model {stream.model_id}, this is {params.model_id}: "
            "load the model that made it"
        )
    if not QSTEP_CODE_MIN <= stream.qstep_code <= QSTEP_CODE_MAX:
        raise BitstreamError(f"damaged stream: there is no step code {stream.qstep_code}")
    return stream.qstep_code


def _blocks(height: int, width: int) -> tuple[int, int]:
    return -(-height // BLOCK), -(-width // BLOCK)


def _pad(img: np.ndarray, blocks: tuple[int, int]) -> np.ndarray:
    """Repeats the last row and column up to whole blocks."""
    pads = [(0, n * BLOCK - size) for n, size in zip(blocks, img.shape[:2], strict=True)]
    return np.pad(img, [*pads, (0, 0)], mode="edge") if any(p[1] for p in pads) else img


def _to_int(x: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(x, -float(escapes.LIMIT), float(escapes.LIMIT))).astype(np.int32)


def _z_grid(params: FrozenModel, code: int) -> tuple[np.ndarray, np.ndarray]:
    """(medians int32 [N], Delta_z int32) in units of 1/16."""
    z_steps = np.asarray(params.z_steps)
    return np.asarray(params.medians), z_steps[params.z_step_index[code - QSTEP_CODE_MIN]]


def _z_tables(
    params: FrozenModel, code: int, blocks: tuple[int, int], shifted: bool
) -> tuple[np.ndarray, tables.CdfTables]:
    """(which table each symbol of the z stream has, the tables): of its channel, or of shifts."""
    n = params.config.N
    found = params.z_tables.select(int(params.z_step_index[code - QSTEP_CODE_MIN]) * n, n)
    channels = np.tile(np.arange(n, dtype=np.int32), blocks[0] * blocks[1])
    if not shifted:
        return channels, found
    index = np.concatenate([channels, np.full(params.config.M, n, np.int32)])
    return index, tables.concatenate([found, scale_adaptation.table()])


@partial(jax.jit, static_argnums=0)
def _g_a(config: Config, params: dict, picture: Array, valid: Array) -> Array:
    x = picture.astype(jnp.float32)[None] / 255
    with _full_precision():
        return transforms.g_a(config, params, x, tuple(valid))[0]


@partial(jax.jit, static_argnums=0)
def _h_a(config: Config, params: dict, y: Array, valid: Array) -> Array:
    with _full_precision():
        return transforms.h_a(config, params, y[None], tuple(valid))[0]


@partial(jax.jit, static_argnums=0)
def _h_s(
    config: Config, network: hyper_synthesis.Network, z_hat: Array, code: Array, valid: Array
) -> tuple[Array, Array]:
    """(scale index uint8, mu float32) of a tile."""
    log_sigma, mu = hyper_synthesis.synthesise(config, network, z_hat[None], tuple(valid))
    return hyper_synthesis.scale_index(log_sigma[0], code), hyper_synthesis.mu_of(network, mu[0])


@partial(jax.jit, static_argnums=0)
def _h_s_psi(
    config: Config, network: hyper_synthesis.Network, z_hat: Array, valid: Array
) -> tuple[Array]:
    return (integer_context.psi_part(config, network, z_hat[None], tuple(valid))[0],)


@partial(jax.jit, static_argnums=0)
def _g_s(
    config: Config,
    params: dict,
    y_q: Array,
    index: Array,
    mu: Array,
    offsets: Array,
    qstep: Array,
    valid: Array,
) -> Array:
    delta = offsets[index.astype(jnp.int32)] * np.float32(OFFSET_UNIT)
    y_hat = variable_rate.reconstruct(y_q.astype(jnp.float32), mu, qstep, delta)
    with _full_precision():
        x = transforms.g_s(config, params, y_hat[None], tuple(valid))[0]
    x = jnp.nan_to_num(x)  # latents that no encoder writes can overflow
    return jnp.round(255 * jnp.clip(x, 0, 1)).astype(jnp.uint8)


def _entropy_parameters(
    params: FrozenModel, z_q: np.ndarray, code: int
) -> tuple[np.ndarray, np.ndarray]:
    """(scale index uint8, mu float32), each [H/16,W/16,M], from the integers z_q."""
    index, mu = _hyper_synthesis(partial(_h_s, code=np.int32(code)), params, z_q, code)
    return index, mu


def _psi(params: FrozenModel, z_q: np.ndarray, code: int) -> np.ndarray:
    """What h_s tells the context model: int32 [H/16,W/16,10M/3]."""
    (psi,) = _hyper_synthesis(_h_s_psi, params, z_q, code)
    return psi


def _hyper_synthesis(
    function: Callable[..., tuple], params: FrozenModel, z_q: np.ndarray, code: int
) -> list[np.ndarray]:
    """Applies function(config, network, z^, valid=…) tile by tile, on the CPU."""
    cpu = jax.devices("cpu")[0]
    network = jax.device_put(params.network, cpu)  # wherever the model lives

    def on_tile(tile: np.ndarray, valid: np.ndarray) -> tuple:
        return function(params.config, network, tile, valid=valid)

    z_hat = hyper_latents(params, z_q, code)
    with jax.default_device(cpu):
        return map_tiles(on_tile, (z_hat,), z_q.shape[:2], _MARGIN_HYPER)


def _synthesise(params: FrozenModel, latents: Latents, code: int) -> np.ndarray:
    """The padded picture, uint8 [H,W,3]."""
    offsets = np.asarray(params.offsets)[code - QSTEP_CODE_MIN]
    qstep = np.float32(qstep_of(code))
    weights = params.params["g_s"]

    def synthesis(*tile: np.ndarray) -> tuple[Array]:
        *parts, valid = tile
        return (_g_s(params.config, weights, *parts, offsets, qstep, valid),)

    (picture,) = map_tiles(synthesis, latents[1:], latents.z.shape[:2], _MARGIN_PIXELS)
    return picture


def _coder_tables(symbol_tables: tables.CdfTables) -> range_coder.Prepared:
    return range_coder.prepare(symbol_tables)


def _encode_stream(
    values: np.ndarray, index: np.ndarray, symbol_tables: tables.CdfTables
) -> container.Stream:
    symbols, escaped = tables.to_symbols(values, index, symbol_tables)
    expected = tables.ideal_bits(symbols, index, symbol_tables) / 8
    lanes = range_coder.choose_lanes(expected)
    words = range_coder.encode(symbols, index, _coder_tables(symbol_tables), lanes)
    return container.Stream(words, escapes.pack_escapes(escaped), lanes)


def _decode_stream(
    stream: container.Stream, index: np.ndarray, symbol_tables: tables.CdfTables
) -> np.ndarray:
    prepared = _coder_tables(symbol_tables)
    symbols = range_coder.decode(stream.words, index, prepared, stream.lanes)
    outside = tables.escapes_in(symbols, index, symbol_tables)
    escaped = escapes.unpack_escapes(stream.escapes, int(np.count_nonzero(outside)))
    escapes.check_limit(escaped)
    return tables.to_values(symbols, index, symbol_tables, escaped)
