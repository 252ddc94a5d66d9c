"""The ablation of post-training: the paper's Figure 3 with a small model.

    python tests/benchmarks/bench_posttrain.py --data PHOTOS --kodak KODAK -o runs/ablation
        [--n 32 --m 192 --base-steps 6000 --unit-steps 600]      (plots: the extra `eval`)

Trains a base model at one rate (Delta = 1, lambda = 0.18), then from it, with equal compute:

  (a) single-rate models, each trained on for itself at its own lambda: unit-steps each
  (b) the base at other quantisation steps, not trained further
  (c) mean of the K losses              (d) one random rate a training step
  (e) MGDA, (f) with offsets, (g) with offsets and a variable quantisation step of z; objectives are
      scaled to gradients of norm one, and their weights have a floor of half the mean
  (h) as (g), with other scales and without the floor, and with a mean in the place of MGDA
  (i) as (g), with two rates a training step, drawn anew; and (d) with offsets and a variable
      quantisation step of z

Each of (c)-(i) gets the compute of all of (a) together; training steps of K rates cost more
(STEP_COST), so there are fewer. Every model is frozen and writes real files of Kodak and of
held-out photographs. Finished models are skipped, so that a killed ablation can be continued;
--only NAME,... trains some of them (two processes can share the work); --report evaluates those
that are there.

Writes points.csv (model, images, qstep, bpp, PSNR), table.md (BD-rate against (a), all rates and
below 32 dB), ablation.png (all curves) and explained.png (gradients and weights of the rates).
"""

import argparse
import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

import jvrc
from jvrc.evaluation.metrics import psnr
from jvrc.evaluation.rd import bd_rate
from jvrc.export import freezing
from jvrc.io.files import write_bytes
from jvrc.io.images import list_images, read_image
from jvrc.runtime import compile_cache
from jvrc.training import loop, warm_start
from jvrc.training.data import batches, datasets
from jvrc.training.method import Method
from jvrc.training.multi_rate import MultiRate
from jvrc.training.recipe.schema import PUBLISHED_QSTEPS, MultiRateRecipe, SingleRateRecipe
from jvrc.training.run.log import read_metrics
from jvrc.training.run.run_folder import load_run
from jvrc.training.single_rate import SingleRate

COST = 5.8  # of an 8-rate training step in single-rate ones, measured at N = 32, M = 192
SINGLE = PUBLISHED_QSTEPS[0:8:2]  # 10, 5.18, 2.68, 1.39
HELD_OUT_CROP = 512
HEADER = ("model", "images", "qstep", "bpp", "psnr_db")

PLAIN = {"train_offsets": False, "train_z_qstep": False}
MGDA = {"weighting": "mgda", "objective_scale": "gradient", "weight_floor": 0.5}
VARIANTS = {
    "c-mean": {"weighting": "mean", "objective_scale": "none", **PLAIN},
    "d-random": {"weighting": "random", "objective_scale": "none", **PLAIN},
    "e-mgda": {**MGDA, **PLAIN},
    "f-mgda-offsets": {**MGDA, "train_z_qstep": False},
    "g-mgda-offsets-z": MGDA,
    "h-mgda-by-rate-no-floor": {
        "weighting": "mgda",
        "objective_scale": "rate",
        "weight_floor": 0.0,
    },
    "h-mgda-raw": {"weighting": "mgda", "objective_scale": "none", "weight_floor": 0.0},
    "h-mean-by-rate": {"weighting": "mean", "objective_scale": "rate"},
    "i-mgda-two-drawn": {**MGDA, "qsteps": (10.0, 1.0), "draw_qsteps": True},
    "i-random-offsets-z": {"weighting": "random", "objective_scale": "none"},
}
STEP_COST = {
    "random": 1.0,
    2: 1.75,
    8: COST,
}  # of a weighting or K rates, in single-rate training steps


def single_name(qstep: float) -> str:
    """Return the name of the single-rate model of a quantisation step."""
    return f"a-single-{qstep:.3g}"


def base_recipe(args: argparse.Namespace) -> SingleRateRecipe:
    """Return the recipe of the base: one rate, no offsets, the quantisation step of z at one."""
    sizes = {"n": args.n, "m": args.m, "steps": args.base_steps, "seed": args.seed}
    return SingleRateRecipe(**sizes, qstep_low=1.0, qstep_high=1.0, crop=args.crop, **PLAIN)


def recipes(args: argparse.Namespace) -> dict[str, MultiRateRecipe]:
    """Return the recipes of all models trained from the base, by name.

    Batches have 8 crops at one rate, 4 at eight.
    """
    unit, common = args.unit_steps, {"crop": args.crop, "seed": args.seed + 1}
    singles = {
        single_name(q): MultiRateRecipe(
            steps=unit,
            batch=8,
            qsteps=(q,),
            weighting="mean",
            objective_scale="none",
            **PLAIN,
            **common,
        )
        for q in SINGLE
    }
    total = len(SINGLE) * unit
    variants = {}
    for name, fields in VARIANTS.items():
        recipe = MultiRateRecipe(batch=8, **common, **fields)
        drawn = recipe.weighting == "random"
        cost = STEP_COST["random" if drawn else len(recipe.qsteps)]
        if cost == COST:  # half the crops, twice the steps
            recipe, cost = replace(recipe, batch=4), cost / 2
        variants[name] = replace(recipe, steps=max(1, round(total / cost)))
    return singles | variants


def train_base(args: argparse.Namespace, images: datasets.Dataset) -> Path:
    """Return the folder of the base run, which is trained unless it is there."""
    if args.base:
        return args.base
    run = args.output / "base"
    _run(SingleRate(base_recipe(args)), images, run, None)
    return run


def _run(method: Method, images: datasets.Dataset, run: Path, init: dict | None) -> None:
    """Train a model, or continue what a killed ablation left; skip a finished one."""
    resume = (run / "checkpoints").is_dir() and any((run / "checkpoints").iterdir())
    if resume and load_run(run).step == method.recipe.steps:
        return
    loop.train(method, images, run, resume=resume, init=None if resume else init)


def train(args: argparse.Namespace, names: list[str]) -> None:
    """Train the models of these names."""
    images = datasets.open_folder(args.data)
    images = images._replace(train=datasets.ImageCache(images.train))
    config, params, described = warm_start.read_source(train_base(args, images))
    for name in names:
        print(f"== {name}", flush=True)
        recipe = recipes(args)[name].of_model(config, described)
        _run(MultiRate(recipe), images, args.output / name, params)


def points(model: jvrc.FrozenModel, images: list[np.ndarray], qstep: float) -> tuple:
    """Return (bpp, PSNR in dB) of real streams, means over the images."""
    rows = []
    for img in images:
        stream = jvrc.compress(model, img, qstep)
        pixels = img.shape[0] * img.shape[1]
        rows.append((8 * len(stream) / pixels, psnr(img, jvrc.decompress(model, stream))))
    return tuple(np.mean(rows, axis=0))


def evaluate(args: argparse.Namespace) -> dict[tuple[str, str], np.ndarray]:
    """Return {(model, images): curve [n,2]}; known points are read from points.csv."""
    sets = {
        "held-out": list(
            batches.centres(datasets.open_folder(args.data).held_out, size=HELD_OUT_CROP)
        )
    }
    if args.kodak:
        sets["kodak"] = [read_image(p) for p in list_images(args.kodak)]
    jobs = {single_name(q): (args.output / single_name(q), (q,)) for q in SINGLE}
    jobs["b-base"] = (args.base or args.output / "base", PUBLISHED_QSTEPS)
    jobs |= {name: (args.output / name, PUBLISHED_QSTEPS) for name in VARIANTS}
    path = args.output / "points.csv"
    rows = list(csv.reader(path.open()))[1:] if path.exists() else []
    known = {(r[0], r[1]) for r in rows}
    for name, (run, qsteps) in tqdm(jobs.items(), desc="models"):
        if not (run / "recipe.json").exists() or all((name, s) in known for s in sets):
            continue
        done = load_run(run)
        if done.step < done.recipe.steps:
            continue
        model = freezing.freeze_run(done, {})
        for label, images in sets.items():
            for q in qsteps:
                bpp, db = points(model, images, q)
                rows.append([name, label, f"{q:.5g}", f"{bpp:.5f}", f"{db:.4f}"])
        lines = [",".join(r) + "\n" for r in (HEADER, *rows)]
        write_bytes(path, "".join(lines).encode())
    curves: dict = {}
    for name, label, _, bpp, db in rows:
        name = "a-single" if name.startswith("a-single") else name
        curves.setdefault((name, label), []).append((float(bpp), float(db)))
    return {key: np.array(sorted(values)) for key, values in curves.items()}


def below(curve: np.ndarray, db: float) -> np.ndarray:
    """Return the part of a curve up to a PSNR, with an interpolated end."""
    from scipy.interpolate import PchipInterpolator

    if curve[0, 1] >= db or curve[-1, 1] <= db:
        return curve
    rate = float(np.exp(PchipInterpolator(curve[:, 1], np.log(curve[:, 0]))(db)))
    return np.concatenate([curve[curve[:, 1] < db], [[rate, db]]])


def table(curves: dict) -> str:
    """Return a Markdown table of BD-rates in percent against (a), all rates and below 32 dB."""
    lines = ["| model | images | all rates | below 32 dB |", "|---|---|---|---|"]
    for (name, label), curve in sorted(curves.items()):
        anchor = curves.get(("a-single", label))
        if name == "a-single" or anchor is None:
            continue
        cells = []
        for part in (lambda c: c, lambda c: below(c, 32.0)):
            try:
                cells.append(f"{bd_rate(part(anchor), part(curve)):+.1f} %")
            except ValueError:
                cells.append("-")
        lines.append(f"| {name} | {label} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def plot(path: Path, curves: dict) -> None:
    """Plot all curves, one panel for each set of images."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    labels = sorted({label for _, label in curves})
    figure, panels = plt.subplots(
        1, len(labels), figsize=(6 * len(labels), 5), layout="constrained", squeeze=False
    )
    for axes, label in zip(panels[0], labels, strict=True):
        for (name, where), curve in sorted(curves.items()):
            style = {"lw": 0, "marker": "*", "ms": 11, "color": "k"} if name == "a-single" else {}
            if where == label:
                axes.plot(*curve.T, **({"lw": 1.3, "marker": "."} | style), label=name)
        axes.set(xlabel="bits per pixel", ylabel="PSNR (RGB), dB", title=label)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def last_row(run: Path) -> dict:
    """Return the last line of training metrics: lists over the rates, lowest rate first."""
    return [r for r in read_metrics(run / "metrics.jsonl") if "weight" in r][-1]


def explain(path: Path, args: argparse.Namespace, curves: dict) -> None:
    """Plot curves before and after post-training, gradients and weights of the rates."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    where = "kodak" if args.kodak else "held-out"
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(15, 4.4), layout="constrained")
    shown = {"b-base": "one model trained for one rate", "g-mgda-offsets-z": "post-trained"}
    for name, label in shown.items():
        left.plot(*curves[name, where].T, marker=".", label=label)
    left.plot(*curves["a-single", where].T, "k*", ms=11, label="a model for each rate")
    left.set(xlabel="bits per pixel", ylabel="PSNR (RGB), dB", title="One model, all rates")
    row = last_row(args.output / "g-mgda-offsets-z")
    rates = [f"{q:.3g}" for q in row["qstep"]]
    middle.bar(rates, row["gradient_norm"], color="steelblue")
    middle.set(yscale="log", xlabel="quantisation step Δ", ylabel="norm of the rate's gradient")
    middle.set_title("Gradients of the rates")
    twin = middle.twinx()
    twin.plot(rates, row["cosine"], "o-", color="crimson")
    twin.set(ylim=(-1, 1))
    twin.set_ylabel("cosine with the update", color="crimson")
    wide = 0.28
    names = {
        "c-mean": "mean",
        "h-mgda-by-rate-no-floor": "MGDA, by rate",
        "g-mgda-offsets-z": "MGDA, (g)",
    }
    present = {k: v for k, v in names.items() if (args.output / k / "metrics.jsonl").exists()}
    for i, (name, label) in enumerate(present.items()):
        row = last_row(args.output / name)
        pull = np.array(row["weight"]) * np.array(row["gradient_norm"])
        right.bar(np.arange(len(rates)) + wide * (i - 1), pull / pull.sum(), wide, label=label)
    right.set_xticks(range(len(rates)), rates)
    right.set(xlabel="quantisation step Δ", ylabel="weight × norm of the gradient, sum 1")
    right.set_title("Shares of the update")
    for axes in (left, right):
        axes.legend(fontsize=8)
    left.grid(alpha=0.3)
    figure.savefig(path, dpi=100)


def report(args: argparse.Namespace) -> None:
    """Evaluate all trained models; print and write the results."""
    curves = evaluate(args)
    if ("g-mgda-offsets-z", "held-out") in curves:
        explain(args.output / "explained.png", args, curves)
    text = table(curves)
    write_bytes(args.output / "table.md", (text + "\n").encode())
    plot(args.output / "ablation.png", curves)
    print(text)


def main() -> None:
    """Train the models asked for, then report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--kodak", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument(
        "--base", type=Path, help="a run that serves as the base, instead of a new one"
    )
    parser.add_argument("--n", type=int, default=32)
    parser.add_argument("--m", type=int, default=192)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--base-steps", type=int, default=6000)
    parser.add_argument("--unit-steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="names, commas between; no report")
    parser.add_argument("--report", action="store_true", help="train nothing")
    args = parser.parse_args()
    compile_cache.enable()
    if not args.report:
        train(args, args.only.split(",") if args.only else list(recipes(args)))
    if not args.only:
        report(args)


if __name__ == "__main__":
    main()
