"""Annealing of the symbols of y: the search of jvrc2026 behind the encoder's option `effort`.

In jvrc2026 a changed symbol moves all later means, so symbols can't be tested one by one as RDOQ
does (jvrc.codec.effort.rdoq). What is optimised is y, by gradient descent through all that follows:
each step's symbols, the means of later steps, g_s. Rounding is relaxed, as in stochastic Gumbel
annealing (Yang, Bamler, Mandt 2020, arXiv 2006.04240): v = (y - mu) / Delta between floor(v) and
floor(v) + 1 becomes

    q = floor(v) + sigmoid(a * t(v - floor(v)) + b * n),   t(r) = artanh(r) - artanh(1 - r),

n drawn from the logistic distribution. The sharpness a grows while the step size falls, until q is
near round(v). It begins near 2, where q is about v, for symbols of a wide CDF table, whose bits
hardly depend on q; for those of a narrow one higher, or all of them would be drawn to zero. Bits
are interpolated between those of the two integers.

The descent is plain, with little momentum. One step size, in units of Delta^2 per bit, serves all
images and rates, since lambda = 0.18 / Delta^2 makes J as steep in y / Delta at all of them.

The constants below were chosen on six crops of 256x256 of training photographs, at Delta = 0.8,
1.5, 3 and 9, for 8 iterations. On eight others these reduce J by 46, 29, 15, 10 and 11 % of the
rate at Delta = 0.7, 1, 2, 5 and 14; with Adam, one mean square for each channel and a from 3 to 12
for all symbols, it was 33, 23, 13, 9 and 9 %. Steps divided by the error's curvature, of the image
or at each position, gave less at all five. CDF tables chosen anew on the way gained nothing, nor
did moving z too, and with it every scale. With the paper's schedule, a = 1 / tau^2 and b = 1 / tau,
tau from 0.5 to 0.1, the noise is larger: 40 iterations of Adam gave a quarter of what they gave
otherwise, and half with the density's bits of q in place of those interpolated.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tqdm import tqdm

from jvrc.codec.effort.objective import REACH, bit_costs, cost, error_weight
from jvrc.codec.tiles.latent_coder import LatentCoder, Symbols
from jvrc.codec.tiles.scene import Scene
from jvrc.codec.tiles.table_choice import choose_tables
from jvrc.codec.transforms.latents import full_precision
from jvrc.codec.transforms.tiling import covering
from jvrc.coding.tile_grid import BLOCK, Y_UNIT, Area
from jvrc.model import jvrc2026, stepwise
from jvrc.model.config import Jvrc2026Config
from jvrc.qstep import qstep_of
from jvrc.runtime.programs import stored

ITERATIONS = (0, 8, 32, 128)  # of each effort
_NARROW, _WIDE = (3.0, 8.0), (2.0, 6.0)  # a, at the start and at the end
_TABLES = (14, 30)  # the last narrow CDF table and the first wide one: sigma / Delta = 0.35, 1.4
_NOISE = 0.3  # b
_STEP = 0.026  # step size in the first iteration: what y / Delta moves by for a gradient of 1 bit
_MOMENTUM = 0.2
_FARTHEST = 0.3  # that y / Delta moves in an iteration


class _Tile(NamedTuple):
    """What stays the same in all iterations; H x W pixels, padded to one of a few sizes."""

    img: Array  # float32 [H,W,3] in [0,1]
    weight: Array  # float32 [H,W,3]: of squared errors, 0 outside of the image
    around: Array  # float32 [H/16,W/16,M]: y^ outside of the tile
    table: Array  # int32, likewise: the CDF table of each symbol
    first: Array  # float32, likewise: m0, in units of hyper_scale
    delta: Array  # float32, likewise: offsets
    inside: Array  # bool [H/16,W/16,1]: the tile
    qstep: Array  # float32 []
    image_valid: Array  # int32 [4]: the part that g_s sees
    tile_valid: Array  # int32 [4]: the tile, which is all that the context model sees


class _Search(NamedTuple):
    """The state of the search: [H/16,W/16,M]."""

    u: Array  # y / Delta
    momentum: Array  # the sum of all gradients, earlier ones counting less


def optimise(
    coder: LatentCoder,
    scene: Scene,
    symbols: Symbols,
    *,
    effort: int,
    progress: bool = False,
) -> Symbols:
    """Return symbols of a smaller `cost`, or those given if none are found.

    symbols: those nearest to the scene's y. The same each time on one machine.
    """
    config, iterations = coder.model.config, ITERATIONS[effort]
    needed = {name: coder.model.params[name] for name in ("g_s", "context", "delta")}
    params = jax.device_put(needed)  # once: each call of a program would copy NumPy's arrays
    tile, slopes = _tile(coder, scene, symbols), _slopes(coder)
    state = _start(tile, scene)
    best, lowest = symbols, _true_cost(coder, scene, symbols)
    trials = (iterations - iterations // 4, iterations)  # the last is nearly always the best
    disable = None if progress else True
    for i in tqdm(range(iterations), desc="annealing", leave=False, disable=disable):
        state = _iterate(config, params, tile, slopes, state, np.int32(i), np.int32(iterations))
        if i + 1 in trials:
            found = coder.quantise(_y_of(state, scene, tile))
            reached = _true_cost(coder, scene, found)
            best, lowest = (found, reached) if reached < lowest else (best, lowest)
    return best


def _true_cost(coder: LatentCoder, scene: Scene, symbols: Symbols) -> float:
    """Return J of symbols; around the tile, y stands for the y^ of other tiles."""
    y_hat = scene.with_tile(coder.reconstruct(symbols))
    return cost(coder, symbols, scene.img, y_hat, scene.weight)


def _slopes(coder: LatentCoder) -> Array:
    """Return what the next larger integer costs more, float32 [tables,2 * REACH]."""
    return jnp.asarray(np.diff(bit_costs(coder.model), axis=1))


def _tile(coder: LatentCoder, scene: Scene, symbols: Symbols) -> _Tile:
    model, qstep = coder.model, np.float32(qstep_of(coder.qstep_code))
    size = covering(scene.blocks.size)
    placed = partial(_placed, size=size, area=scene.area)
    weight = np.full(scene.img.shape, error_weight(qstep), np.float32)
    weight *= scene.weight
    inside = placed(np.ones((*symbols.y.shape[:2], 1), bool))
    around = _placed(scene.y, size, scene.blocks)
    return _Tile(
        img=_corner(scene.img.astype(np.float32) / 255, size),
        weight=_corner(weight, size),
        around=jnp.where(inside, 0, around),
        table=placed(choose_tables(coder, symbols).tables.astype(np.int32)),
        first=placed(symbols.mu / np.float32(model.config.hyper_scale)),
        delta=placed(model.delta(symbols.index, coder.qstep_code)),
        inside=inside,
        qstep=jnp.asarray(qstep),
        image_valid=_valid(scene.blocks),
        tile_valid=_valid(scene.area),
    )


def _placed(x: np.ndarray, size: tuple[int, int], area: Area) -> Array:
    """Return latents of an area [h,w,M] within an array of so many blocks, zero elsewhere."""
    found = np.zeros((size[0] * Y_UNIT, size[1] * Y_UNIT, x.shape[2]), x.dtype)
    found[area.within(Area(0, 0, 0, 0), Y_UNIT)] = x
    return jnp.asarray(found)


def _corner(x: np.ndarray, size: tuple[int, int]) -> Array:
    """Return pixels [h,w,C] padded with zeros to so many blocks."""
    pads = [(0, n * BLOCK - side) for n, side in zip(size, x.shape[:2], strict=True)]
    return jnp.asarray(np.pad(x, [*pads, (0, 0)]))


def _valid(area: Area) -> Array:
    """Return (top, bottom, left, right) in pixels, as jvrc.model.transforms takes it."""
    top, left, bottom, right = area.scaled(BLOCK)
    return jnp.array([top, bottom, left, right], jnp.int32)


def _start(tile: _Tile, scene: Scene) -> _Search:
    size = tile.inside.shape[0] // Y_UNIT, tile.inside.shape[1] // Y_UNIT
    u = _placed(scene.tile_y, size, scene.area) / tile.qstep
    return _Search(u, jnp.zeros_like(u))


def _y_of(state: _Search, scene: Scene, tile: _Tile) -> np.ndarray:
    """Return y of the tile, float32 [h,w,M]."""
    return np.asarray(state.u * tile.qstep)[scene.inner]


@partial(stored, static_argnums=(0,))
def _iterate(
    config: Jvrc2026Config,
    params: dict,
    tile: _Tile,
    slopes: Array,
    state: _Search,
    i: Array,
    iterations: Array,
) -> _Search:
    """Return the state after iteration i."""
    done = i.astype(jnp.float32) / iterations.astype(jnp.float32)
    noise = _NOISE * jax.random.logistic(jax.random.fold_in(jax.random.key(0), i), state.u.shape)
    sharpness = _sharpness(tile.table, done)
    loss = partial(_relaxed_cost, config, params, tile, slopes, sharpness, noise)
    gradient = jnp.where(tile.inside, jax.grad(loss)(state.u), 0)
    momentum = _MOMENTUM * state.momentum + gradient
    step = _STEP * 0.5 * (1 + jnp.cos(jnp.pi * done)) * momentum
    return _Search(state.u - jnp.clip(step, -_FARTHEST, _FARTHEST), momentum)


def _sharpness(table: Array, done: Array) -> Array:
    """Return a of each symbol when that share of the iterations is done."""
    narrow, wide = (first * (last / first) ** done for first, last in (_NARROW, _WIDE))
    part = jnp.clip((table - _TABLES[0]) / (_TABLES[1] - _TABLES[0]), 0, 1)
    return narrow + (wide - narrow) * part


def _relaxed_cost(
    config: Jvrc2026Config,
    params: dict,
    tile: _Tile,
    slopes: Array,
    sharpness: Array,
    noise: Array,
    u: Array,
) -> Array:
    """Return J, but for a constant, of relaxed symbols; u = y / Delta."""

    def reconstruct(mu: Array) -> tuple[Array, Array]:
        q = _relaxed(u[None] - mu / tile.qstep, sharpness[None], noise[None])
        sign = jnp.clip(q, -1, 1)  # in place of sign(q), which has no gradient
        return mu + tile.qstep * (q - sign * tile.delta[None]), q

    with full_precision():
        features = jvrc2026.features_of(params, tile.qstep[None])
        context = jvrc2026.at_features(params["context"], features)
        found = stepwise.in_steps(
            config, context, tile.first[None], None, reconstruct, tuple(tile.tile_valid)
        )
        y_hat = jnp.where(tile.inside, found[0][0], tile.around)
        valid = tuple(tile.image_valid)
        x_hat = stepwise.g_s(config, params, y_hat[None], tile.qstep[None], valid)[0]
    error = jnp.sum(tile.weight * jnp.square(jnp.clip(x_hat, 0, 1) - tile.img))
    return error + jnp.sum(jnp.where(tile.inside, _bits(tile, slopes, found[1][0]), 0))


def _relaxed(v: Array, sharpness: Array, noise: Array) -> Array:
    """Return symbols between floor(v) and floor(v) + 1."""
    low = jnp.floor(jax.lax.stop_gradient(v))
    r = jnp.clip(v - low, 1e-6, 1 - 1e-6)
    t = 0.5 * jnp.log(r * (1 + r) / ((1 - r) * (2 - r)))  # artanh(r) - artanh(1 - r)
    return low + jax.nn.sigmoid(sharpness * t + noise)


def _bits(tile: _Tile, slopes: Array, q: Array) -> Array:
    """Return the bits of relaxed symbols, but for those of their floors."""
    low = jnp.floor(jax.lax.stop_gradient(q))
    at = jnp.clip(low, -REACH, REACH - 1).astype(jnp.int32) + REACH
    return slopes.ravel()[tile.table * slopes.shape[1] + at] * (q - low)
