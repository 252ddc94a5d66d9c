"""Optimisers at equal processor time, from the same start: a table of held-out losses.

    python tests/benchmarks/bench_optimizers.py PHOTOS [--seconds 40] [--n 16] [--m 48]

PHOTOS: a folder of images. Every optimiser trains mbt2018-mean on four crops of 128x128 a training
step, with a cosine schedule that ends when so many seconds of the processor are spent; compiling is
not counted. Losses are those of validation, of the averaged parameters.
"""

import argparse
import time
from pathlib import Path

import jax
import numpy as np

from jvrc.training import loop
from jvrc.training.data import batches, datasets
from jvrc.training.recipe.schema import SingleRateRecipe
from jvrc.training.run import parallel
from jvrc.training.single_rate import SingleRate
from jvrc.training.validation.held_out import make_validation

NAMES = ("adam", "muon", "muon-all", "soap")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--n", type=int, default=16)
    parser.add_argument("--m", type=int, default=48)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--optimizers", nargs="+", default=NAMES)
    args = parser.parse_args()
    images = datasets.open_folder(args.photos)
    images = images._replace(train=datasets.ImageCache(images.train, progress=False))
    print("| optimiser | training steps | held-out loss |\n|---|---|---|")
    for name in args.optimizers:
        # steps are not known in advance: the fraction done goes by the clock, as with --minutes
        recipe = SingleRateRecipe(
            n=args.n,
            m=args.m,
            batch=4,
            minutes=1.0,
            ema_decay=0.99,
            optimizer=name,
            learning_rate=args.learning_rate,
        )
        steps, loss = trained(recipe, images, args.seconds)
        print(f"| {name} | {steps} | {loss:.3f} |", flush=True)


def trained(
    recipe: SingleRateRecipe, images: datasets.Dataset, seconds: float
) -> tuple[int, float]:
    """Return (training steps, held-out loss) after so many seconds of the processor."""
    mesh, method = parallel.make_mesh(), SingleRate(recipe)
    state = loop.first_state(method, mesh, images.train)
    crops = batches.batch(images.train, 0, 0, size=recipe.crop, count=recipe.batch)
    step = loop.jit_step(method, mesh).lower(state, crops).compile()
    spent, done = 0.0, 0.0
    while done < 1:
        crops = batches.batch(
            images.train, 0, int(state.step), size=recipe.crop, count=recipe.batch
        )
        begin = time.process_time()
        state, _ = jax.block_until_ready(step(state, crops))
        spent += time.process_time() - begin
        done = min(1.0, spent / seconds)
        state = state._replace(progress=np.float32(done))
    validate = make_validation(recipe.config(), batches.centres(images.held_out))
    return int(state.step), validate(state.ema)["loss"]


if __name__ == "__main__":
    main()
