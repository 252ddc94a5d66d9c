"""Rate-distortion-optimised quantisation (RDOQ) of y: the encoder's option `effort`.

Rounding y to the nearest integers is not the best that an encoder can do: a decoder reconstructs
whatever integers it is sent. RDOQ searches for those that minimise the loss that the models are
trained for, on one image:

    J(q) = bits(q) + w * sum (g_s(y^(q)) - x)²,   w = lambda * 255² / 3,   lambda = 0.18 / Delta²

Each pass takes the gradient g of the distortion at the present q and its curvature h, a diagonal,
and tests for every integer whether q - 1 or q + 1 would be better,

    bits(q) - bits(q ± 1) - (g * d + h * d² / 2) > 0,   d = y^(q ± 1) - y^(q).

If all that would gain moved at once, neighbours would overshoot together. So in each pass a random
share of them moves, a smaller one in each, and more likely those that gain more. Where an integer
takes its last move back, the curvature was assumed too small and is raised. The best q of all
passes is kept. 40 passes give what stochastic Gumbel annealing (Yang, Bamler, Mandt 2020, arXiv
2006.04240) gives in several hundred. z, and with it sigma, stays as it is: of 400 changes of one
integer of z, tried after the search for y, none reduced J.
"""

from functools import partial
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tqdm import tqdm

from jvrc.codec.effort import objective
from jvrc.codec.effort.objective import REACH, bit_costs, error_weight
from jvrc.codec.tiles.latent_coder import LatentCoder, Symbols
from jvrc.codec.tiles.table_choice import shifted_tables
from jvrc.codec.transforms.latents import full_precision, synthesis_margin
from jvrc.codec.transforms.tiling import map_tiles, tile_count
from jvrc.coding.tile_grid import BLOCK, Y_UNIT
from jvrc.frozen.model import FrozenModel
from jvrc.model import transforms, variable_rate
from jvrc.model.config import Config
from jvrc.qstep import qstep_of
from jvrc.runtime.programs import stored

PASSES = (0, 12, 40, 120)  # of each effort
_PROBES = 8  # random vectors that the curvature is estimated with
_SHARES = (0.5, 0.1)  # of the integers that would gain: moved in the first and in the last pass
_CAUTION = 1.1  # factor on the curvature where a move was taken back


class _Tile(NamedTuple):
    """What stays the same in all passes over one tile."""

    img: Array  # float32 [H,W,3] in [0,1]
    weight: Array  # float32 [H,W,3]: w, 0 outside the image
    table: Array  # int32 [H/16,W/16,M]: the CDF table of each integer
    mu: Array  # float32, likewise
    delta: Array  # float32, likewise: offsets
    inside: Array  # bool [H/16,W/16,1]
    qstep: Array  # float32 []
    valid: Array  # int32 [4]


class _Search(NamedTuple):
    """The state of the search: [H/16,W/16,M]."""

    q: Array  # integers, float32
    curvature: Array  # float32, see `_curvature`
    moved: Array  # float32: the last move of each integer, -1, 0 or 1


class Coder(LatentCoder, Protocol):
    """What RDOQ asks of a coder beyond the contract."""

    rdoq_rounds: int  # searches: several where mu depends on the symbols and has to follow them

    def consistent(self, symbols: Symbols) -> Symbols:
        """Return symbols near those given whose index and mu are those that a decoder will find."""
        ...


def optimise(
    coder: Coder,
    img: np.ndarray,
    weight: np.ndarray,
    symbols: Symbols,
    *,
    effort: int,
    progress: bool = False,
) -> Symbols:
    """Return symbols of a smaller `cost`, or those given if none are found.

    img: uint8 [h,w,3], whose y has the symbols given; of a tile, its part of the image. weight:
    float32 [h,w,3], of squared errors (jvrc.codec.tiles.scene). Across the borders of tiles the
    search sees zeros in place of the neighbours' latents. Where mu depends on the symbols, the
    coder asks for several searches, and mu follows after each.
    """
    tried = [symbols]
    for _ in range(coder.rdoq_rounds):
        passes = PASSES[effort] // coder.rdoq_rounds
        last, code = tried[-1], coder.qstep_code
        y = search(coder.model, img, weight, last, code, passes=passes, progress=progress)
        tried.append(coder.consistent(last._replace(y=y)))
    return min(tried, key=partial(cost, coder, img, weight))


def cost(coder: LatentCoder, img: np.ndarray, weight: np.ndarray, symbols: Symbols) -> float:
    """Return J of symbols (jvrc.codec.effort.objective)."""
    return objective.cost(coder, symbols, img, coder.reconstruct(symbols), weight)


def search(
    model: FrozenModel,
    img: np.ndarray,
    weight: np.ndarray,
    symbols: Symbols,
    qstep_code: int,
    *,
    passes: int,
    progress: bool = False,
) -> np.ndarray:
    """Return integers of y, int32 [H/16,W/16,M], of no larger J, index and mu held, tile by tile.

    img, weight: as in `optimise`; symbols: of its y, padded to whole blocks of 64 pixels.
    """
    blocks = symbols.y.shape[0] // Y_UNIT, symbols.y.shape[1] // Y_UNIT
    padded = np.zeros((blocks[0] * BLOCK, blocks[1] * BLOCK, 3), np.uint8)
    padded[: img.shape[0], : img.shape[1]] = img
    counts = np.zeros(padded.shape, np.float32)
    counts[: img.shape[0], : img.shape[1]] = weight
    costs = jnp.asarray(bit_costs(model))
    margin = synthesis_margin(model.config)
    total, disable = tile_count(blocks, margin) * passes, None if progress else True
    with tqdm(total=total, desc="RDOQ", leave=False, disable=disable) as bar:

        def on_tile(*parts: np.ndarray) -> tuple[np.ndarray]:
            img, counts, y, *others = parts
            tile = _tile(model, qstep_code, img, counts, *others)
            return (_search_tile(model, tile, jnp.asarray(y, jnp.float32), costs, passes, bar),)

        table = shifted_tables(model.y_tables, symbols.y, symbols.index).tables
        inputs = (padded, counts, symbols.y, symbols.index, table, symbols.mu)
        (found,) = map_tiles(on_tile, inputs, blocks, margin)
    return found


def _tile(
    model: FrozenModel,
    qstep_code: int,
    img: np.ndarray,
    counts: np.ndarray,
    index: np.ndarray,
    table: np.ndarray,
    mu: np.ndarray,
    valid: np.ndarray,
) -> _Tile:
    qstep = np.float32(qstep_of(qstep_code))
    ones = jnp.ones((1, *index.shape[:2], 1))
    return _Tile(
        img=jnp.asarray(img, jnp.float32) / 255,
        weight=jnp.asarray(counts) * error_weight(qstep),
        table=jnp.asarray(table, jnp.int32),
        mu=jnp.asarray(mu),
        delta=jnp.asarray(model.delta(index, qstep_code)),
        inside=transforms.within(ones, tuple(valid), 16)[0] > 0,
        qstep=jnp.asarray(qstep),
        valid=jnp.asarray(valid),
    )


def _search_tile(
    model: FrozenModel, tile: _Tile, q: Array, costs: Array, passes: int, bar: tqdm
) -> np.ndarray:
    """Return the best integers found for a tile; the same each time."""
    config, weights = model.config, jax.device_put(model.params["g_s"])
    curvature = _curvature(config, weights, tile, q, np.int32(passes))
    state = _Search(q, curvature, jnp.zeros_like(q))
    best, lowest = q, np.inf
    for i in range(passes + 1):
        share = np.float32(_SHARES[0] * (_SHARES[1] / _SHARES[0]) ** (i / passes))
        following, cost = _pass(config, weights, tile, state, costs, np.int32(i), share)
        if float(cost) < lowest:
            best, lowest = state.q, float(cost)
        state = following
        bar.update(i > 0)
    return np.asarray(best, np.int32)


def _restored(config: Config, weights: dict, tile: _Tile, y_hat: Array) -> Array:
    with full_precision():
        return transforms.g_s(config, weights, y_hat[None], tuple(tile.valid))[0]


def _reconstructed(tile: _Tile, q: Array) -> Array:
    return variable_rate.reconstruct(q, tile.mu, tile.qstep, tile.delta)


@partial(stored, static_argnums=(0,))
def _curvature(config: Config, weights: dict, tile: _Tile, q: Array, draw: Array) -> Array:
    """Return the diagonal of 2 J^T w J, J the Jacobian of g_s: [H/16,W/16,M]; draw: see `_key`.

    Estimated from products of J^T with random signs (Hutchinson 1990). The estimate is replaced by
    the product of its means over positions and over channels, which few probes give well.
    """
    y_hat = _reconstructed(tile, q)
    _, pull = jax.vjp(partial(_restored, config, weights, tile), y_hat)

    def probe(total: Array, key: Array) -> tuple[Array, None]:
        signs = jax.random.rademacher(key, tile.img.shape, jnp.float32)
        (found,) = pull(signs * jnp.sqrt(2 * tile.weight))
        return total + jnp.square(found), None

    keys = jax.random.split(_key(draw), _PROBES)
    total, _ = jax.lax.scan(probe, jnp.zeros_like(y_hat), keys)
    total = jnp.where(tile.inside, total, 0) / _PROBES
    share = jnp.sum(tile.inside) / tile.inside.size
    channel = total.mean((0, 1), keepdims=True) / share
    return channel * (total / jnp.maximum(channel, 1e-12)).mean(2, keepdims=True)


@partial(stored, static_argnums=(0,))
def _pass(
    config: Config,
    weights: dict,
    tile: _Tile,
    search: _Search,
    costs: Array,
    draw: Array,
    share: Array,
) -> tuple[_Search, Array]:
    """Return (the search after one pass, J before it); draw: see `_key`."""
    q = search.q

    def distortion(y_hat: Array) -> Array:
        x_hat = jnp.clip(_restored(config, weights, tile, y_hat), 0, 1)
        return jnp.sum(tile.weight * jnp.square(x_hat - tile.img))

    def bits(q: Array) -> Array:
        at = jnp.clip(q, -REACH, REACH).astype(jnp.int32) + REACH
        return costs.ravel()[tile.table * costs.shape[1] + at]

    y_hat, now = _reconstructed(tile, q), bits(q)
    error, gradient = jax.value_and_grad(distortion)(y_hat)
    move, gain = jnp.zeros_like(q), jnp.zeros_like(q)
    for step in (-1, 1):
        d = _reconstructed(tile, q + step) - y_hat
        gained = now - bits(q + step) - (gradient * d + search.curvature * d * d / 2)
        move, gain = jnp.where(gained > gain, step, move), jnp.maximum(gain, gained)
    move = jnp.where(_chosen(jnp.where(tile.inside, gain, 0), share, _key(draw)), move, 0)
    return _moved(search, move), error + jnp.sum(jnp.where(tile.inside, now, 0))


def _key(draw: Array) -> Array:
    """Return the key of a draw by its number; programs kept on disk take no keys themselves."""
    return jax.random.fold_in(jax.random.key(0), draw)


def _chosen(gain: Array, share: Array, key: Array) -> Array:
    """Draw, as bool, about `share` of the positive gains, large ones up to twice as often."""
    mean = jnp.sum(gain) / jnp.maximum(jnp.sum(gain > 0, dtype=jnp.float32), 1)
    chance = 2 * share * gain / jnp.maximum(gain + mean, 1e-12)
    return jax.random.uniform(key, gain.shape) < chance


def _moved(search: _Search, move: Array) -> _Search:
    back = move * search.moved < 0
    curvature = jnp.where(back, _CAUTION * search.curvature, search.curvature)
    return _Search(search.q + move, curvature, jnp.where(move == 0, search.moved, move))
