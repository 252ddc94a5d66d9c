"""Speed of a training step: steps and pixels a second, seconds to compile, counted operations.

    python tests/benchmarks/bench_training.py [--recipe jvrc2026] [--batch 32] [--crop 256]
        [--data photos.tiles] [--optimizer muon] [--steps 30] [--compile-only]

Crops are drawn on the device, as in `jvrc train` on an accelerator; without --data from tiles of
noise, which cost the same. Operations and bytes are XLA's count for one training step (that of a
program with one step in it), and the table has the time that they would take at the published peak
rates of accelerators: no step can be faster than the longer of the two. --compile-only: for sizes
that this machine can't train. Seconds are those of the clock and of the processor.
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

from jvrc.training import feeding, loop
from jvrc.training.data import tile_file
from jvrc.training.recipe import files
from jvrc.training.recipe.schema import SingleRateRecipe
from jvrc.training.run import parallel, run_folder
from jvrc.training.single_rate import SingleRate

# Published peaks, of dense products: (Tflop/s in bfloat16, Tflop/s in TF32 or None, TB/s of memory)
PEAKS = {"NVIDIA H200": (989.0, 494.0, 4.8), "TPU v5e": (197.0, None, 0.819)}


def main() -> None:
    args = parsed()
    recipe = chosen_recipe(args)
    method, mesh = SingleRate(recipe), parallel.make_mesh()
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
    parser.add_argument("--precision")
    parser.add_argument("--sizes", help="of jvrc2026: C=64,K=64,…")
    parser.add_argument("--steps", type=int, default=30, help="to measure")
    parser.add_argument("--compile-only", action="store_true")
    return parser.parse_args()


def chosen_recipe(args: argparse.Namespace) -> SingleRateRecipe:
    """Return the first stage of the recipe, as the options change it, from random parameters."""
    recipe = files.read_stages(files.recipe_path(args.recipe))[0].recipe
    names = ("batch", "crop", "n", "m", "optimizer", "precision")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.sizes:
        pairs = (part.split("=") for part in args.sizes.split(","))
        given["sizes"] = dict(recipe.sizes) | {name: int(value) for name, value in pairs}
    return replace(recipe, **given, initialisation="random")


def noise(crop: int) -> tile_file.Tiles:
    rng = np.random.default_rng(0)
    array = rng.integers(0, 256, (16, 2 * crop, 2 * crop, 3), dtype=np.uint8)
    return tile_file.Tiles(array, np.ones(16, np.float32))


def timed(text: str, function: Callable[..., Any], *args: Any) -> Any:
    """Return the function's result, and print how long it took."""
    begin, processor = time.perf_counter(), time.process_time()
    result = jax.block_until_ready(function(*args))
    seconds, processor = time.perf_counter() - begin, time.process_time() - processor
    print(f"{text}: {seconds:.1f} s, of the processor {processor:.1f} s", flush=True)
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
    print_limits(cost.get("flops", 0) / 1e12, cost.get("bytes accessed", 0) / 1e12)


def print_limits(tflop: float, tbyte: float) -> None:
    """Print the least time of a step on accelerators, by operations and by memory traffic."""
    print("| device | operations, bfloat16 | operations, TF32 | memory |")
    print("|---|---|---|---|")
    for device, (bfloat16, tf32, memory) in PEAKS.items():
        exact = f"{1e3 * tflop / tf32:.2f} ms" if tf32 else "-"
        least = (f"{1e3 * tflop / bfloat16:.2f} ms", exact, f"{1e3 * tbyte / memory:.1f} ms")
        print(f"| {device} | {' | '.join(least)} |")


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
