"""Random crops of tiles, drawn by JAX: the same on an accelerator and on the host.

The crops of training step s are a function of (seed, s): which tiles, where, and how they are
mirrored. So a run sees the same ones wherever the tiles are kept.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax


class Places(NamedTuple):
    """Where crops are, and how they are mirrored."""

    tile: Array  # int32 [B]
    corner: Array  # int32 [B,2], top and left
    mirrored: Array  # bool [3,B]: columns, rows, and rows exchanged for columns


def draw_places(
    seed: int | Array, step: Array, chances: Array, *, count: int, side: int, size: int
) -> Places:
    """Draw the places of `count` crops of size x size in tiles of side x side.

    chances: cumulative, float32 [n]; see `Tiles.chances`.
    """
    key = jax.random.fold_in(jax.random.key(seed), step)
    k_tile, k_corner, k_mirrored = jax.random.split(key, 3)
    at = jax.random.uniform(k_tile, (count,))
    # all comparisons at once: on an accelerator one kernel, where a binary search takes dozens
    drawn = jnp.searchsorted(chances, at, side="right", method="compare_all")
    last = jnp.argmax(chances)  # of a chance that is not zero
    return Places(
        jnp.minimum(drawn, last).astype(jnp.int32),
        jax.random.randint(k_corner, (count, 2), 0, side - size + 1),
        jax.random.bernoulli(k_mirrored, 0.5, (3, count)),
    )


def cut(tiles: Array, places: Places, *, size: int) -> Array:
    """Return crops, uint8 [B,size,size,3], of tiles [n,T,T,3] on the device."""

    def one(tile: Array, corner: Array) -> Array:
        start = (tile, corner[0], corner[1], jnp.int32(0))
        return lax.dynamic_slice(tiles, start, (1, size, size, 3))[0]

    crops = jax.vmap(one)(places.tile, places.corner)
    columns, rows, exchanged = places.mirrored[..., None, None, None]
    crops = jnp.where(columns, crops[:, :, ::-1], crops)
    crops = jnp.where(rows, crops[:, ::-1], crops)
    return jnp.where(exchanged, crops.swapaxes(1, 2), crops)


def cut_on_host(tiles: np.ndarray, places: Places, *, size: int) -> np.ndarray:
    """Return the crops that `cut` returns, of tiles in the host's memory or mapped from a file."""

    def one(tile: int, corner: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
        top, left = corner
        crop = tiles[tile, top : top + size, left : left + size]
        crop = crop[:, ::-1] if mirrored[0] else crop
        crop = crop[::-1] if mirrored[1] else crop
        return crop.swapaxes(0, 1) if mirrored[2] else crop

    tile, corner, mirrored = (np.asarray(a) for a in places)
    return np.stack([one(*p) for p in zip(tile, corner, mirrored.T, strict=True)])


def host_batches(
    tiles: np.ndarray, chances: np.ndarray, seed: int, *, count: int, size: int
) -> Callable[[int], np.ndarray]:
    """Return a function from the number of a training step to its crops."""
    options = {"count": count, "side": tiles.shape[1], "size": size}
    draw = jax.jit(partial(draw_places, seed, **options))
    cpu = jax.local_devices(backend="cpu")[0]

    def batch(step: int) -> np.ndarray:
        with jax.default_device(cpu):
            places = draw(jnp.int32(step), chances)
        return cut_on_host(tiles, places, size=size)

    return batch
