"""How crops reach the training step: batches made by the host, or tiles that live on the device.

Both take a state through one training step or more in one dispatch, and are compiled before there
is a state: in a thread, while images are read and parameters initialised.
"""

from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jvrc.runtime.background import in_background
from jvrc.training.data import batches, datasets, tile_crops
from jvrc.training.data.tile_file import Tiles
from jvrc.training.method import Step
from jvrc.training.recipe.schema import Recipe
from jvrc.training.run import parallel
from jvrc.training.run.step_memory import bytes_of, compiled
from jvrc.training.update.state import State

Waiting = Callable[[], AbstractContextManager]
STEPS_TOGETHER = 10  # training steps to a dispatch, where crops are drawn on the device
_SHARE_OF_MEMORY = 0.4  # of an accelerator, for tiles


class Feed(Protocol):
    """Takes a state through training steps."""

    together: int  # training steps to a dispatch, at most
    described: str  # where crops are made
    compiled: Future  # the program of a dispatch

    def begin(self, images: datasets.Dataset, first: int, last: int) -> None:
        """Prepare the crops of training steps first … last-1."""
        ...

    def close(self) -> None:
        """Let go of what was prepared."""
        ...

    def advance(self, state: State, count: int, waiting: Waiting) -> tuple[State, dict[str, Array]]:
        """Return the state after the next `count` steps, and their reports.

        Reports are those of one step, or stacked on axis 0 where `together` is above one. waiting:
        a context that counts the time within.
        """
        ...


def fits_on_device(tiles: Tiles) -> bool:
    """Return True if an accelerator trains, and has memory for the tiles beside all else."""
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return False
    return tiles.array.nbytes <= _SHARE_OF_MEMORY * (bytes_of(device) or 0)


def abstract(tree: Any, mesh: Mesh) -> Any:
    """Return shapes and dtypes of arrays that every device holds whole."""
    whole = parallel.everywhere(mesh)
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=whole), tree)


class HostFeed:
    """Crops are made by a worker of the host."""

    together = 1
    described = "crops made by the host"

    def __init__(self, recipe: Recipe, step: Any, mesh: Mesh, state: State) -> None:
        """Begin to compile. step: a training step, jitted. state: shapes and dtypes."""
        self._recipe, self._spread = recipe, NamedSharding(mesh, PartitionSpec("data"))
        shape = (recipe.batch, recipe.crop, recipe.crop, 3)
        batch = jax.ShapeDtypeStruct(shape, np.uint8, sharding=self._spread)
        self.compiled = in_background(partial(compiled, step, abstract(state, mesh), batch))
        self._batches: Generator[np.ndarray] = (made for made in ())

    def begin(self, images: datasets.Dataset, first: int, last: int) -> None:
        """Begin to make the batches of training steps first … last-1."""
        options = {"size": self._recipe.crop, "count": self._recipe.batch}
        seed, share = self._recipe.run_seed(), self._recipe.unnatural_share
        if isinstance(images.train, Tiles):
            array, chances = images.train.array, images.train.chances(share)
            make = tile_crops.host_batches(array, chances, seed, **options)
        else:
            make = partial(batches.batch, images.train, seed, unnatural_share=share, **options)
        self._batches = batches.in_advance(make, first, last)

    def advance(self, state: State, count: int, waiting: Waiting) -> tuple[State, dict[str, Array]]:
        """Take one step, with the next batch; every process makes all and keeps its part."""
        with waiting():
            made = next(self._batches)
        batch = jax.make_array_from_callback(made.shape, self._spread, made.__getitem__)
        return self.compiled.result()(state, batch)

    def close(self) -> None:
        self._batches.close()


class DeviceFeed:
    """All tiles are on the device: crops are drawn within the dispatch, of several steps."""

    together = STEPS_TOGETHER
    described = f"crops drawn on the device, {STEPS_TOGETHER} training steps a dispatch"

    def __init__(self, recipe: Recipe, step: Step, mesh: Mesh, state: State, tiles: Tiles) -> None:
        """Begin to compile. step: not jitted. state: shapes and dtypes."""
        self._whole = parallel.everywhere(mesh)
        self._inputs = (tiles.array, tiles.chances(recipe.unnatural_share))
        many = steps_on_device(recipe, step, mesh, side=tiles.array.shape[1])
        jitted = jax.jit(many, donate_argnums=0, out_shardings=self._whole)
        shapes = abstract((state, self._inputs, np.int32(0)), mesh)
        remedy = ", or leave the tiles to the host with --host-crops"
        self.compiled = in_background(partial(compiled, jitted, *shapes, remedy=remedy))

    def begin(self, images: datasets.Dataset, first: int, last: int) -> None:
        """Copy the tiles to the device."""
        self._inputs = parallel.put(self._inputs, self._whole)

    def advance(self, state: State, count: int, waiting: Waiting) -> tuple[State, dict[str, Array]]:
        """Take `count` steps."""
        steps = parallel.put(np.int32(count), self._whole)
        return self.compiled.result()(state, self._inputs, steps)

    def close(self) -> None:
        self._inputs = ()


def steps_on_device(recipe: Recipe, step: Step, mesh: Mesh, *, side: int) -> Callable[..., tuple]:
    """Return the program of `DeviceFeed`, not jitted.

    (state, (tiles uint8 [n,side,side,3], chances float32 [n]), count) -> (state, reports): `count`
    training steps, at most STEPS_TOGETHER. Reports are stacked; those beyond count mean nothing.
    """
    spread = NamedSharding(mesh, PartitionSpec("data"))
    return partial(take_steps, step, partial(_drawn, recipe, side, spread))


def _drawn(
    recipe: Recipe, side: int, spread: NamedSharding, state: State, tiles: Array, chances: Array
) -> Array:
    """Return the crops of the next training step, spread over the devices."""
    options = {"count": recipe.batch, "side": side, "size": recipe.crop}
    places = tile_crops.draw_places(state.settings.seed, state.step, chances, **options)
    crops = tile_crops.cut(tiles, places, size=recipe.crop)
    return jax.lax.with_sharding_constraint(crops, spread)


def take_steps(
    step: Step, crops: Callable[..., Array], state: State, inputs: tuple, count: Array
) -> tuple[State, dict[str, Array]]:
    """Take `count` steps, on crops(state, *inputs).

    The number of iterations is fixed: those beyond count change nothing. After each iteration of a
    loop whose length it does not know, XLA waits for an accelerator before it launches the next.
    """

    def one(state: State) -> tuple[State, dict[str, Array]]:
        return step(state, crops(state, *inputs))

    def body(i: Array, carry: tuple) -> tuple:
        before, reports = carry
        after, report = one(before)
        state = jax.tree.map(lambda new, old: jnp.where(i < count, new, old), after, before)
        return state, jax.tree.map(lambda all, value: all.at[i].set(value), reports, report)

    shapes = jax.eval_shape(one, state)[1]
    empty = jax.tree.map(lambda a: jnp.zeros((STEPS_TOGETHER, *a.shape), a.dtype), shapes)
    return jax.lax.fori_loop(0, STEPS_TOGETHER, body, (state, empty))
