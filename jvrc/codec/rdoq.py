"""Choosing the integers of y by what they cost and what they give: an encoder's option.

Rounding y to the nearest integers is not the best that an encoder can do. A decoder restores
whatever integers it is sent, so one may search for those that minimise the loss that the models are
trained for, of one picture:

    J(q) = bits(q) + w * sum (g_s(y^(q)) - x)²,   w = lambda * 255² / 3,   lambda = 0.18 / Delta²

Each pass takes the gradient g of the distortion at the present q and its curvature h, a diagonal,
and finds for every integer whether q - 1 or q + 1 would be better,

    bits(q) - bits(q ± 1) - (g * d + h * d² / 2) > 0,   d = y^(q ± 1) - y^(q).

Neighbours move against each other if all move at once, so in each pass a random share of those that
would gain do, a smaller one in each, and most often those that would gain most. One that takes its
last move back was too bold: its curvature counts for more from then on. Best of all q seen wins. In
40 passes that gives what stochastic Gumbel annealing (Yang, Bamler, Mandt 2020, arXiv 2006.04240)
gives in several hundred steps. z, and with it sigma and mu, stay as they are: of 400 changes of one
integer of z, tried after that of y, not one paid.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tqdm import tqdm

from jvrc.codec.tiling import map_tiles, spans
from jvrc.coding.tables import bit_costs
from jvrc.frozen.model import FrozenModel
from jvrc.model import transforms, variable_rate
from jvrc.model.config import Config
from jvrc.qstep import qstep_of, rd_lambda

PASSES = (0, 12, 40, 120)  # of each effort
_PROBES = 8  # of the curvature
_REACH = 64  # integers beyond cost what this one costs
_SHARES = (0.5, 0.1)  # of what would gain: moved in the first and in the last pass
_CAUTION = 1.1  # times the curvature where a move was taken back
_MARGIN = 1  # blocks that g_s looks around, rounded up


class _Tile(NamedTuple):
    """What stays the same in all passes over one tile."""

    picture: Array  # float32 [H,W,3] in [0,1]
    weight: Array  # float32 [H,W,1]: w, 0 outside the picture
    table: Array  # int32 [H/16,W/16,M]: of y_tables, for each integer
    mu: Array  # float32, likewise
    delta: Array  # float32, likewise: offsets
    inside: Array  # bool [H/16,W/16,1]
    qstep: Array  # float32 []
    valid: Array  # int32 [4]


class _Search(NamedTuple):
    """Where the search is: [H/16,W/16,M]."""

    q: Array  # integers, float32
    curvature: Array  # float32, see `_curvature`
    moved: Array  # float32: the last move of each integer, -1, 0 or 1


def refine(
    params: FrozenModel,
    img: np.ndarray,
    latents: tuple[np.ndarray, np.ndarray, np.ndarray],
    table: np.ndarray,
    code: int,
    *,
    passes: int,
    progress: bool = False,
) -> np.ndarray:
    """Integers of y, int32 [H/16,W/16,M], of no larger J than those given, tile by tile.

    img: uint8 [h,w,3]. latents: y int32, scale index uint8 and mu float32, each [H/16,W/16,M], for
    the picture enlarged to whole blocks of 64 pixels. table: int [H/16,W/16,M], under which table
    each will be coded. code: step code. progress: show a bar.
    """
    y, index, mu = latents
    blocks = y.shape[0] // 4, y.shape[1] // 4
    height, width = (64 * n for n in blocks)
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: img.shape[0], : img.shape[1]] = img
    counts = np.zeros((height, width, 1), np.uint8)
    counts[: img.shape[0], : img.shape[1]] = 1
    costs = jnp.asarray(bit_costs(params.y_tables, np.arange(-_REACH, _REACH + 1)))
    tiles = np.prod([len(spans(n, _MARGIN)) for n in blocks])
    total = int(tiles) * passes
    with tqdm(total=total, desc="refining", leave=False, disable=None if progress else True) as bar:

        def on_tile(*parts: np.ndarray) -> tuple[np.ndarray]:
            picture, counts, y, *others = parts
            tile = _tile(params, code, picture, counts, *others)
            return (_refine_tile(params, tile, jnp.asarray(y, jnp.float32), costs, passes, bar),)

        inputs = (picture, counts, y, index, table, mu)
        (refined,) = map_tiles(on_tile, inputs, blocks, _MARGIN)
    return refined


def _tile(
    params: FrozenModel,
    code: int,
    picture: np.ndarray,
    counts: np.ndarray,
    index: np.ndarray,
    table: np.ndarray,
    mu: np.ndarray,
    valid: np.ndarray,
) -> _Tile:
    qstep = np.float32(qstep_of(code))
    ones = jnp.ones((1, *index.shape[:2], 1), bool)
    return _Tile(
        picture=jnp.asarray(picture, jnp.float32) / 255,
        weight=jnp.asarray(counts, jnp.float32) * (rd_lambda(qstep) * 255**2 / 3),
        table=jnp.asarray(table, jnp.int32),
        mu=jnp.asarray(mu),
        delta=jnp.asarray(params.delta(index, code)),
        inside=transforms.within(ones, tuple(valid), 16)[0],
        qstep=jnp.asarray(qstep),
        valid=jnp.asarray(valid),
    )


def _refine_tile(
    params: FrozenModel, tile: _Tile, q: Array, costs: Array, passes: int, bar: tqdm
) -> np.ndarray:
    """The best integers found for a tile; the same each time."""
    config, weights = params.config, params.params["g_s"]
    key = jax.random.key(0)
    curvature = _curvature(config, weights, tile, q, jax.random.fold_in(key, passes))
    search = _Search(q, curvature, jnp.zeros_like(q))
    best, lowest = q, np.inf
    for i in range(passes + 1):
        share = _SHARES[0] * (_SHARES[1] / _SHARES[0]) ** (i / passes)
        draw = jax.random.fold_in(key, i)
        following, cost = _pass(config, weights, tile, search, costs, draw, share)
        if float(cost) < lowest:
            best, lowest = search.q, float(cost)
        search = following
        bar.update(i > 0)
    return np.asarray(best, np.int32)


def _restored(config: Config, weights: dict, tile: _Tile, y_hat: Array) -> Array:
    with jax.default_matmul_precision("highest"):
        return transforms.g_s(config, weights, y_hat[None], tuple(tile.valid))[0]


def _reconstructed(tile: _Tile, q: Array) -> Array:
    return variable_rate.reconstruct(q, tile.mu, tile.qstep, tile.delta)


@partial(jax.jit, static_argnums=0)
def _curvature(config: Config, weights: dict, tile: _Tile, q: Array, key: Array) -> Array:
    """The diagonal of 2 J^T w J, J the Jacobian of g_s: [H/16,W/16,M].

    From products of J^T with random signs (Hutchinson), smoothed: of the spread over channels and
    that over places, which together are nearly all of it, few probes suffice.
    """
    y_hat = _reconstructed(tile, q)
    _, pull = jax.vjp(partial(_restored, config, weights, tile), y_hat)

    def probe(total: Array, key: Array) -> tuple[Array, None]:
        signs = jax.random.rademacher(key, tile.picture.shape, jnp.float32)
        (found,) = pull(signs * jnp.sqrt(2 * tile.weight))
        return total + jnp.square(found), None

    total, _ = jax.lax.scan(probe, jnp.zeros_like(y_hat), jax.random.split(key, _PROBES))
    total = jnp.where(tile.inside, total, 0) / _PROBES
    share = jnp.sum(tile.inside) / tile.inside.size
    channel = total.mean((0, 1), keepdims=True) / share
    return channel * (total / jnp.maximum(channel, 1e-12)).mean(2, keepdims=True)


@partial(jax.jit, static_argnums=0)
def _pass(
    config: Config,
    weights: dict,
    tile: _Tile,
    search: _Search,
    costs: Array,
    key: Array,
    share: Array,
) -> tuple[_Search, Array]:
    """(the search after one pass, J before it)."""
    q = search.q

    def distortion(y_hat: Array) -> Array:
        x_hat = jnp.clip(_restored(config, weights, tile, y_hat), 0, 1)
        return jnp.sum(tile.weight * jnp.square(x_hat - tile.picture))

    def bits(q: Array) -> Array:
        at = jnp.clip(q, -_REACH, _REACH).astype(jnp.int32) + _REACH
        return costs.ravel()[tile.table * costs.shape[1] + at]

    y_hat, now = _reconstructed(tile, q), bits(q)
    error, gradient = jax.value_and_grad(distortion)(y_hat)
    move, gain = jnp.zeros_like(q), jnp.zeros_like(q)
    for step in (-1, 1):
        d = _reconstructed(tile, q + step) - y_hat
        gained = now - bits(q + step) - (gradient * d + search.curvature * d * d / 2)
        move, gain = jnp.where(gained > gain, step, move), jnp.maximum(gain, gained)
    move = jnp.where(_chosen(gain * tile.inside, share, key), move, 0)
    return _moved(search, move), error + jnp.sum(jnp.where(tile.inside, now, 0))


def _chosen(gain: Array, share: Array, key: Array) -> Array:
    """bool: about `share` of the positive gains, up to twice as often the larger ones."""
    mean = jnp.sum(gain) / jnp.maximum(jnp.count_nonzero(gain), 1)
    chance = 2 * share * gain / jnp.maximum(gain + mean, 1e-12)
    return jax.random.uniform(key, gain.shape) < chance


def _moved(search: _Search, move: Array) -> _Search:
    back = move * search.moved < 0
    curvature = jnp.where(back, _CAUTION * search.curvature, search.curvature)
    return _Search(search.q + move, curvature, jnp.where(move == 0, search.moved, move))
