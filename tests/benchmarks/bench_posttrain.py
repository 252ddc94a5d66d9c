"""The ablation of post-training: the paper's Figure 3 at the scale that a machine affords.

    python tests/benchmarks/bench_posttrain.py --data PHOTOS --kodak KODAK -o runs/ablation
        [--n 32 --m 192 --base-steps 6000 --unit-steps 600]      (plots: the extra `eval`)

Trains a base model at one rate (Delta = 1, lambda = 0.18), then from it, with equal compute:

  (a) single-rate models, each trained on for itself at its own lambda: unit-steps each
  (b) the base with a plain step, nothing trained
  (c) mean of the K losses              (d) one random rate a step
  (e) MGDA, (f) with offsets, (g) with offsets and a variable step of z; objectives scaled to
      gradients of norm one, and a floor of half the mean on their weights
  (h) as (g), with other scales and without the floor, and with a mean in the place of MGDA
  (i) as (g), with two rates a step, drawn anew; and (d) with offsets and a variable step of z

(c)-(i) get, each, the compute of all of (a) together, the steps of K rates being dearer
(STEP_COST) and so fewer. Every model is frozen and writes real files of Kodak and of held-back
photographs. Stages that are done are skipped, so a killed ablation goes on; --only NAME,... runs
some of them (two processes can share the work); --report evaluates what is there.

Writes points.csv (model, pictures, step, bpp, PSNR), table.md (BD-rate against (a), all rates and
below 32 dB), ablation.png (all curves) and explained.png (what happens to the rates).
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
from jvrc.training import data, loop, warm_start
from jvrc.training.log import read_metrics
from jvrc.training.recipe import PUBLISHED_QSTEPS, PostRecipe, Recipe

COST = 5.8  # an 8-rate step in single-rate steps of as many crops, measured at N = 32, M = 192
SINGLE = PUBLISHED_QSTEPS[0:8:2]  # 10, 5.18, 2.68, 1.39
HELD_CROP = 512
HEADER = ("model", "pictures", "qstep", "bpp", "psnr_db")

PLAIN = {"offsets": False, "z_step": False}
MGDA = {"aggregator": "mgda", "scale": "gradient", "floor": 0.5}
VARIANTS = {
    "c-mean": {"aggregator": "mean", "scale": "none", **PLAIN},
    "d-random": {"aggregator": "random", "scale": "none", **PLAIN},
    "e-mgda": {**MGDA, **PLAIN},
    "f-mgda-offsets": {**MGDA, "z_step": False},
    "g-mgda-offsets-z": MGDA,
    "h-mgda-by-rate-no-floor": {"aggregator": "mgda", "scale": "rate", "floor": 0.0},
    "h-mgda-raw": {"aggregator": "mgda", "scale": "none", "floor": 0.0},
    "h-mean-by-rate": {"aggregator": "mean", "scale": "rate"},
    "i-mgda-two-drawn": {**MGDA, "qsteps": (10.0, 1.0), "between": True},
    "i-random-offsets-z": {"aggregator": "random", "scale": "none"},
}
STEP_COST = {"random": 1.0, 2: 1.75, 8: COST}  # of a rule or K rates, in single-rate steps


def single_name(qstep: float) -> str:
    """Of the single-rate model of a step."""
    return f"a-single-{qstep:.3g}"


def base_recipe(args: argparse.Namespace) -> Recipe:
    """The base model: one rate, no offsets, the step of z at one."""
    sizes = {"n": args.n, "m": args.m, "steps": args.base_steps, "seed": args.seed}
    return Recipe(**sizes, qstep_low=1.0, qstep_high=1.0, crop=args.crop, **PLAIN)


def recipes(args: argparse.Namespace) -> dict[str, PostRecipe]:
    """What is trained from the base. Batches of 8 crops at one rate, of 4 at eight."""
    unit, common = args.unit_steps, {"crop": args.crop, "seed": args.seed + 1}
    singles = {
        single_name(q): PostRecipe(
            steps=unit, batch=8, qsteps=(q,), aggregator="mean", scale="none", **PLAIN, **common
        )
        for q in SINGLE
    }
    total = len(SINGLE) * unit
    variants = {}
    for name, fields in VARIANTS.items():
        recipe = PostRecipe(batch=8, **common, **fields)
        rule = recipe.aggregator
        cost = STEP_COST[rule if rule == "random" else len(recipe.qsteps)]
        if cost == COST:  # half the crops, twice the steps
            recipe, cost = replace(recipe, batch=4), cost / 2
        variants[name] = replace(recipe, steps=max(1, round(total / cost)))
    return singles | variants


def train_base(args: argparse.Namespace, photographs: data.Photographs) -> Path:
    """The base run's folder; trains it unless it is there."""
    if args.base:
        return args.base
    run = args.output / "base"
    _run(base_recipe(args), photographs, run, None)
    return run


def _run(recipe: Recipe | PostRecipe, photographs: data.Photographs, run: Path, init: dict) -> None:
    """Trains, or goes on with what a killed ablation left; nothing to do if it is finished."""
    resume = (run / "checkpoints").is_dir() and any((run / "checkpoints").iterdir())
    if resume and loop.load_run(run).step == recipe.steps:
        return
    loop.train(recipe, photographs, run, resume=resume, init=None if resume else init)


def train(args: argparse.Namespace, names: list[str]) -> None:
    """The runs of these names."""
    photographs = data.open_folder(args.data)
    photographs = photographs._replace(train=data.Pictures(photographs.train))
    config, params, described = warm_start.read_source(train_base(args, photographs))
    for name in names:
        print(f"== {name}", flush=True)
        recipe = recipes(args)[name].of_model(config, described)
        _run(recipe, photographs, args.output / name, params)


def points(model: jvrc.FrozenModel, pictures: list[np.ndarray], qstep: float) -> tuple:
    """(bpp, PSNR in dB) of real streams, means over the pictures."""
    rows = []
    for img in pictures:
        stream = jvrc.compress(model, img, qstep)
        pixels = img.shape[0] * img.shape[1]
        rows.append((8 * len(stream) / pixels, psnr(img, jvrc.decompress(model, stream))))
    return tuple(np.mean(rows, axis=0))


def evaluate(args: argparse.Namespace) -> dict[tuple[str, str], np.ndarray]:
    """{(model, pictures): curve [n,2]}; what is measured already is read from points.csv."""
    sets = {"held-back": list(data.centres(data.open_folder(args.data).held, size=HELD_CROP))}
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
        done = loop.load_run(run)
        if done.step < done.recipe.steps:
            continue
        model = freezing.freeze_run(done, {})
        for label, pictures in sets.items():
            for q in qsteps:
                bpp, db = points(model, pictures, q)
                rows.append([name, label, f"{q:.5g}", f"{bpp:.5f}", f"{db:.4f}"])
        lines = [",".join(r) + "\n" for r in (HEADER, *rows)]
        write_bytes(path, "".join(lines).encode())
    curves: dict = {}
    for name, label, _, bpp, db in rows:
        name = "a-single" if name.startswith("a-single") else name
        curves.setdefault((name, label), []).append((float(bpp), float(db)))
    return {key: np.array(sorted(values)) for key, values in curves.items()}


def below(curve: np.ndarray, db: float) -> np.ndarray:
    """The part of a curve up to a PSNR, with an interpolated end."""
    from scipy.interpolate import PchipInterpolator

    if curve[0, 1] >= db or curve[-1, 1] <= db:
        return curve
    rate = float(np.exp(PchipInterpolator(curve[:, 1], np.log(curve[:, 0]))(db)))
    return np.concatenate([curve[curve[:, 1] < db], [[rate, db]]])


def table(curves: dict) -> str:
    """Markdown: BD-rate in percent against (a), over all rates and below 32 dB."""
    lines = ["| model | pictures | all rates | below 32 dB |", "|---|---|---|---|"]
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
    """One panel for each set of pictures."""
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
    """The last line of training metrics: lists over the rates, lowest rate first."""
    return [r for r in read_metrics(run / "metrics.jsonl") if "weight" in r][-1]


def explain(path: Path, args: argparse.Namespace, curves: dict) -> None:
    """What post-training does to the rates: curves, gradients' norms and cosines, weights."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    where = "kodak" if args.kodak else "held-back"
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(15, 4.4), layout="constrained")
    shown = {"b-base": "one model trained for one rate", "g-mgda-offsets-z": "post-trained"}
    for name, label in shown.items():
        left.plot(*curves[name, where].T, marker=".", label=label)
    left.plot(*curves["a-single", where].T, "k*", ms=11, label="a model for each rate")
    left.set(xlabel="bits per pixel", ylabel="PSNR (RGB), dB", title="One model, all rates")
    row = last_row(args.output / "g-mgda-offsets-z")
    rates = [f"{q:.3g}" for q in row["qstep"]]
    middle.bar(rates, row["gradient_norm"], color="steelblue")
    middle.set(yscale="log", xlabel="step Δ", ylabel="norm of the rate's gradient")
    middle.set_title("The rates pull with unequal force …")
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
    right.set(xlabel="step Δ", ylabel="share of the pull: weight × norm")
    right.set_title("… and the weights decide whose wins")
    for axes in (left, right):
        axes.legend(fontsize=8)
    left.grid(alpha=0.3)
    figure.savefig(path, dpi=100)


def report(args: argparse.Namespace) -> None:
    """Evaluates, prints and writes what there is."""
    curves = evaluate(args)
    if ("g-mgda-offsets-z", "held-back") in curves:
        explain(args.output / "explained.png", args, curves)
    text = table(curves)
    write_bytes(args.output / "table.md", (text + "\n").encode())
    plot(args.output / "ablation.png", curves)
    print(text)


def main() -> None:
    """Trains what is asked for, then reports."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--kodak", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--base", type=Path, help="a run to start from, in the place of a new one")
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
