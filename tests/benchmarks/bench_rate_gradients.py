"""Compare the time of a K-rate training step with K single-rate ones, and both Gram matrices.

    python tests/benchmarks/bench_rate_gradients.py --data PHOTOS [--from RUN|FILE] [--batch 8]

Each kind of training step runs in a process of its own, which gives the median time of a step and
the peak memory. Then, on the same batches, the weights by the exact Gram matrix and by that of the
latents are shown, and the cosine between the two updates.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jvrc
from jvrc.runtime import compile_cache
from jvrc.training import loop, multi_rate, rate_gradients, warm_start
from jvrc.training.data import batches, datasets
from jvrc.training.recipe.schema import MultiRateRecipe
from jvrc.training.run import parallel

SHIPPED = Path(jvrc.__file__).parent / "weights" / "mbt2018-mean.safetensors"
KINDS = {
    "single-rate": {"qsteps": (2.68,), "weighting": "mean", "objective_scale": "none"},
    "2 rates, exact": {"qsteps": (10.0, 1.0), "draw_qsteps": True},
    "8 rates, exact": {"gram": "exact"},
    "8 rates, latents": {"gram": "latents"},
    "8 rates, exact, bfloat16": {"precision": "bfloat16"},
}


def setting(args: argparse.Namespace, kind: str) -> tuple[MultiRateRecipe, dict, list[np.ndarray]]:
    """Return (recipe, parameters, crops of each step)."""
    config, params, described = warm_start.read_source(args.source)
    recipe = MultiRateRecipe(batch=args.batch, crop=args.crop, **KINDS[kind])
    images = datasets.open_folder(args.data).held_out
    shape = {"size": args.crop, "count": args.batch}
    crops = [batches.batch(images, 0, i, **shape) for i in range(args.rounds)]
    return recipe.of_model(config, described), params, crops


def measure(args: argparse.Namespace) -> dict:
    """Return the seconds of a training step of one kind and the peak memory in megabytes.

    Runs in a process of its own.
    """
    recipe, params, crops = setting(args, args.kind)
    mesh, method = parallel.make_mesh(), multi_rate.MultiRate(recipe)
    step = loop.jit_step(method, mesh)
    state, seconds = loop.first_state(method, mesh, init=params), []
    for images in [crops[0], *crops]:
        begin = time.perf_counter()
        state, _ = jax.block_until_ready(step(state, images))
        seconds.append(time.perf_counter() - begin)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": float(np.median(seconds[1:])), "megabytes": peak}


def compare(args: argparse.Namespace) -> None:
    """Print the weights by either Gram matrix, and the cosine between the updates."""
    recipe, params, crops = setting(args, "8 rates, exact")
    updates = {}
    for gram in ("exact", "latents"):
        step = rate_gradients.make_update(
            rate_gradients.Setup(
                recipe.config(),
                multi_rate.weighting_of(replace(recipe, weight_floor=args.floor)),
                exact_gram=gram == "exact",
            ),
            parallel.make_mesh(),
        )
        updates[gram] = jax.jit(step)
    rates = multi_rate.rates_of(recipe, params, jax.random.key(0))
    print(f"\nfloor {args.floor}; weights, lowest rate first; exact, then latents")
    for i, images in enumerate(crops[:4]):
        x = jnp.asarray(images, jnp.float32) / 255
        (_, a, report, _), (_, b, _, _) = (
            updates[g](params, x, rates, jax.random.key(i)) for g in ("exact", "latents")
        )
        gram = np.asarray(report.gram, np.float64)
        cosine = a @ gram @ b / np.sqrt((a @ gram @ a) * (b @ gram @ b))
        print(np.round(a, 2), np.round(b, 2), f"cosine of the updates {cosine:.3f}")


def main() -> None:
    """Measure all kinds, then compare the Gram matrices."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument(
        "--from", dest="source", type=Path, default=SHIPPED, help="run or weights file"
    )
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--floor", type=float, default=0.0)
    parser.add_argument("--kind", choices=KINDS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    compile_cache.enable()
    if args.kind:
        print(json.dumps(measure(args)))
        return
    results = {}
    for kind in KINDS:
        command = [sys.executable, __file__, *sys.argv[1:], "--kind", kind]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        results[kind] = json.loads(done.stdout.splitlines()[-1])
    one = results["single-rate"]["seconds"]
    print(f"{args.batch} crops of {args.crop}x{args.crop}")
    print(f"{'step':26}{'s':>6}  x single      MB")
    for kind, r in results.items():
        print(f"{kind:26}{r['seconds']:6.3f}  {r['seconds'] / one:6.2f}  {r['megabytes']:8.0f}")
    compare(args)


if __name__ == "__main__":
    main()
