"""Speed of a training step: steps and pixels a second, seconds to compile, counted operations.

    python tests/benchmarks/bench_training.py [--recipe jvrc2026] [--batch 32] [--crop 256]
        [--data photos.tiles] [--optimizer muon] [--steps 30] [--compile-only]

Crops are drawn on the device, as in `jvrc train` on an accelerator; without --data from tiles of
noise, which cost the same. Operations and bytes are XLA's count for one training step (that of a
program with one step in it). --compile-only: for sizes that this machine can't train.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jvrc.training import devices, feeding, loop, recipe_files, run_folder, tile_file
from jvrc.training.recipe import SingleRateRecipe
from jvrc.training.single_rate import SingleRate


def main() -> None:
    args = parsed()
    recipe = chosen_recipe(args)
    method, mesh = SingleRate(recipe), devices.make_mesh()
    device = jax.devices()[0]
    print(f"{jax.device_count()} x {device.device_kind}, JAX {jax.__version__}")
    print(
        f"{recipe.model}, {recipe.batch} crops of {recipe.crop}x{recipe.crop}, {recipe.optimizer}"
    )
    count_operations(method, mesh)
    if not args.compile_only:
        tiles = tile_file.open_tiles(args.data).train if args.data else noise(recipe.crop)
        run(tiles, method, mesh, args.steps)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="jvrc2026", help="its first stage")
    parser.add_argument("--data", type=Path, help="a file of `jvrc pack`")
    for name in ("batch", "crop", "n", "m"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--optimizer")
    parser.add_argument("--steps", type=int, default=30, help="to measure")
    parser.add_argument("--compile-only", action="store_true")
    return parser.parse_args()


def chosen_recipe(args: argparse.Namespace) -> SingleRateRecipe:
    """Return the first stage of the recipe, as the options change it, from random parameters."""
    recipe = recipe_files.read_stages(recipe_files.recipe_path(args.recipe))[0].recipe
    names = ("batch", "crop", "n", "m", "optimizer")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return replace(recipe, **given, initialisation="random")


def noise(crop: int) -> tile_file.Tiles:
    rng = np.random.default_rng(0)
    array = rng.integers(0, 256, (16, 2 * crop, 2 * crop, 3), dtype=np.uint8)
    return tile_file.Tiles(array, np.ones(16, np.float32))


def timed(text: str, function: Callable[..., Any], *args: Any) -> Any:
    """Return the function's result, and print how long it took."""
    begin = time.perf_counter()
    result = jax.block_until_ready(function(*args))
    print(f"{text}: {time.perf_counter() - begin:.1f} s", flush=True)
    return result


def count_operations(method: SingleRate, mesh: jax.sharding.Mesh) -> None:
    """Print seconds to trace and to compile one training step, its operations and its bytes."""
    recipe = method.recipe
    state = feeding.abstract(run_folder.abstract_state(recipe), mesh)
    shape = (recipe.batch, recipe.crop, recipe.crop, 3)
    spread = NamedSharding(mesh, PartitionSpec("data"))
    batch = jax.ShapeDtypeStruct(shape, np.uint8, sharding=spread)
    lowered = timed("trace and lower", loop.jit_step(method, mesh).lower, state, batch)
    compiled = timed("compile", lowered.compile)
    cost, memory = compiled.cost_analysis() or {}, compiled.memory_analysis()
    print(
        f"a training step: {cost.get('flops', 0) / 1e9:.4g} Gflop, "
        f"{cost.get('bytes accessed', 0) / 1e9:.3g} GB read and written"
    )
    if memory:
        print(f"temporary memory: {memory.temp_size_in_bytes / 1e9:.3g} GB")


def run(tiles: tile_file.Tiles, method: SingleRate, mesh: jax.sharding.Mesh, steps: int) -> None:
    """Train, and print the speed."""
    recipe, shapes = method.recipe, run_folder.abstract_state(method.recipe)
    feed = feeding.DeviceFeed(recipe, method.make_step(mesh), mesh, shapes, tiles)
    state = loop.first_state(method, mesh)
    feed.begin(None, 0, steps)

    def advance(state: Any, count: int) -> Any:
        for done in range(0, count, feed.together):
            state, _ = feed.advance(state, min(feed.together, count - done), None)
        return state

    state = timed("first dispatch, with the rest of its compilation", advance, state, 1)
    begin = time.perf_counter()
    jax.block_until_ready(advance(state, steps))
    speed = steps / (time.perf_counter() - begin)
    pixels = recipe.batch * recipe.crop**2
    print(f"{speed:.3g} steps/s, {speed * pixels / 1e6:.3g} Mpixel/s")


if __name__ == "__main__":
    main()
