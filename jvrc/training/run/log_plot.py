"""Plots of a run's metrics.jsonl: losses, rates, weights and gradients over training steps.

Rates are in bits per pixel, PSNR in dB. Each rate k of a post-training has a colour, from dark for
a coarse quantisation step Delta_k to bright for a fine one.
"""

import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jvrc.io.files import write_bytes
from jvrc.runtime import extras

_PANEL_INCHES = (3.9, 2.9)
_FEW = 25  # points: below that, each is marked


class _Run(NamedTuple):
    """The values that panels draw."""

    rows: list[dict]  # of training
    validations: list[dict]  # each with its training step
    colors: list  # one for each rate; empty for a run of `jvrc train`


def plot_run(rows: list[dict], path: str | os.PathLike, *, title: str = "") -> None:
    """Plot the rows of `log.read_metrics` to a file, in the format that its suffix names.

    Panels without values are left out. The file appears complete or not at all.

    Raises:
      ValueError: nothing to draw, or an unknown suffix.
      ImportError: the extra `eval` is not installed.
    """
    extras.require("eval")
    import matplotlib
    from matplotlib.figure import Figure  # its canvas is Agg, whatever the backend

    run = _read(rows, matplotlib.colormaps["viridis"])
    panels = [panel for panel in _PANELS if panel[0](run)]
    if not panels:
        raise ValueError("rows must hold metrics of a run, such as its loss; there are none")
    columns, lines = _grid(len(panels))
    size = (columns * _PANEL_INCHES[0], lines * _PANEL_INCHES[1])
    figure = Figure(figsize=size, layout="constrained")
    for place, (_, draw) in enumerate(panels, 1):
        draw(figure.add_subplot(lines, columns, place), run)
    figure.suptitle(", ".join(filter(None, (title, _summary(run)))), fontsize=11)
    buffer = BytesIO()
    kind = Path(path).suffix.lower().removeprefix(".") or "png"
    figure.savefig(buffer, format=kind, dpi=110)
    write_bytes(path, buffer.getvalue())


def _grid(count: int) -> tuple[int, int]:
    """Return (columns, lines) for so many panels, with few empty places and wider than high."""
    columns = min((4, 3), key=lambda c: (-count % c, -c)) if count > 2 else count
    return columns, -(-count // columns)


def _read(rows: list[dict], colormap: Callable) -> _Run:
    """Sort rows into those of training and of validation, and give each rate a colour."""
    training = [row for row in rows if "loss" in row]
    validations = [row["validation"] | {"step": row["step"]} for row in rows if "validation" in row]
    qsteps = _last(training, "qstep")
    ranks = np.argsort(np.argsort(-qsteps)) / max(1, len(qsteps) - 1)  # the coarsest is 0
    return _Run(training, validations, [colormap(0.92 * rank) for rank in ranks])


def _series(rows: list[dict], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (steps [T], values [T] or [T,K]) of the rows that have the name; null becomes NaN."""
    found = [(row["step"], row[name]) for row in rows if name in row]
    return np.array([step for step, _ in found]), np.array([v for _, v in found], float)


def _last(rows: list[dict], name: str) -> np.ndarray:
    """Return the newest value of each rate [K], NaN if it has none; empty without rates."""
    values = _series(rows, name)[1]
    if values.ndim < 2:
        return np.zeros(0)
    newest = values.shape[0] - 1 - np.argmax(np.isfinite(values[::-1]), 0)
    return values[newest, np.arange(values.shape[1])]


def _summary(run: _Run) -> str:
    """Return the newest training step and the median speed as text."""
    speeds = [row["steps_per_s"] for row in run.rows if row.get("steps_per_s")]
    return f"step {_newest_step(run)}" + (f", {np.median(speeds):.2g} steps/s" if speeds else "")


def _lines(axes: Any, run: _Run, name: str, label: str = "training") -> None:
    """Draw a value over training steps, or one line for each rate."""
    step, values = _series(run.rows, name)
    style = {"lw": 1.3, "marker": "." if len(step) < _FEW else None}
    if values.ndim == 1:
        axes.plot(step, values, color="0.35", label=label, **style)
        return
    for column, color in zip(values.T, run.colors, strict=True):
        seen = np.isfinite(column)  # skips rows in which the rate was not drawn
        axes.plot(step[seen], column[seen], color=color, **style)


def _newest_step(run: _Run) -> int:
    return max(row["step"] for row in [*run.rows, *run.validations])


def _over_steps(axes: Any, run: _Run, title: str, **settings: Any) -> None:
    """Label a panel over training steps; all such panels span the same ones."""
    _finish(axes, title, "training step", xlim=(0, 1.02 * _newest_step(run)), **settings)


def _finish(axes: Any, title: str, xlabel: str, **settings: Any) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(xlabel, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25, lw=0.6)
    axes.set(**settings)


def _draw_loss(axes: Any, run: _Run) -> None:
    if run.rows:
        _lines(axes, run, "loss")
    step, held_out = _series(run.validations, "loss")
    axes.plot(step, held_out, "o-", color="crimson", ms=3, lw=1.3, label="held-out")
    if run.validations:
        axes.legend(fontsize=8, frameon=False)
    values = np.concatenate([_series(run.rows, "loss")[1], held_out])
    wide = values.min() > 0 and values.max() > 5 * values.min()
    _over_steps(axes, run, "Loss", yscale="log" if wide else "linear")


def _draw_bpp(axes: Any, run: _Run) -> None:
    _lines(axes, run, "bpp")
    _over_steps(axes, run, "Bits per pixel")


def _draw_psnr(axes: Any, run: _Run) -> None:
    _lines(axes, run, "psnr")
    _over_steps(axes, run, "PSNR, dB")


def _draw_weight(axes: Any, run: _Run) -> None:
    """Draw weights as shares; a row is a mean over the steps since the row before."""
    step, values = _series(run.rows, "weight")
    shares = np.nan_to_num(values)
    shares = shares / np.maximum(shares.sum(1, keepdims=True), 1e-30)
    shares = np.concatenate([shares[:1], shares])
    axes.stackplot(np.append(0, step), shares.T, colors=run.colors, step="pre", lw=0)
    _over_steps(axes, run, "Weights α of the rates, sum 1", ylim=(0, 1))
    axes.grid(False)


def _draw_gradient_norm(axes: Any, run: _Run) -> None:
    _lines(axes, run, "gradient_norm")
    _over_steps(axes, run, "Norm of the gradient", yscale="log")


def _draw_outliers(axes: Any, run: _Run) -> None:
    """Draw the training steps skipped so far, and the share of crops of reduced weight."""
    step, skipped = _series(run.rows, "skipped")
    axes.step(step, np.cumsum(skipped), where="post", color="0.35", lw=1.3, label="steps skipped")
    step, crops = _series(run.rows, "reduced_crops")
    percent = axes.twinx()
    percent.plot(step, 100 * crops, color="crimson", lw=0.8)
    percent.set_ylabel("crops of reduced weight, %", fontsize=8, color="crimson")
    percent.tick_params(labelsize=8)
    _over_steps(axes, run, "Outliers: steps skipped so far")


def _draw_cosine(axes: Any, run: _Run) -> None:
    _lines(axes, run, "cosine")
    axes.axhline(0, color="0.3", lw=0.8, ls=":")
    low = min(0.0, float(np.nanmin(_series(run.rows, "cosine")[1], initial=0)))
    _over_steps(axes, run, "Cosine to the update", ylim=(max(-1.05, low - 0.05), 1.05))


def _draw_qstep(axes: Any, run: _Run) -> None:
    _lines(axes, run, "qstep")
    _over_steps(axes, run, "Quantisation step Δ of each rate", yscale="log")


def _draw_curve(axes: Any, run: _Run) -> None:
    """Draw rate and distortion of the newest validation, and the first one in grey."""
    styles = {-1: {"color": "crimson", "marker": "o", "ms": 4}}
    if len(run.validations) > 1:
        styles[0] = {"color": "0.6", "marker": ".", "ls": "--"}
    for number, style in styles.items():
        report = run.validations[number]
        axes.plot(report["bpp"], report["psnr"], lw=1.3, label=f"step {report['step']}", **style)
    newest = run.validations[-1]
    for i, qstep in enumerate(newest.get("qstep", [])):
        place = {"xytext": (5, -9), "textcoords": "offset points", "fontsize": 7, "color": "0.3"}
        axes.annotate(f"Δ {qstep:.3g}", (newest["bpp"][i], newest["psnr"][i]), **place)
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    axes.margins(x=0.14, y=0.1)
    _finish(axes, "Held-out images: PSNR, dB", "bits per pixel")


def _draw_unnatural(axes: Any, run: _Run) -> None:
    """Draw the mean and the highest rate of tiles that are no photographs."""
    reports = [v["unnatural"] | {"step": v["step"]} for v in run.validations if "unnatural" in v]
    for name, style in (("bpp", "-"), ("highest_bpp", ":")):
        step, values = _series(reports, name)
        for i, color in zip(range(values.shape[1]), ("crimson", "0.35"), strict=False):
            label = f"Δ {reports[-1]['qstep'][i]:.3g}, {'mean' if name == 'bpp' else 'highest'}"
            axes.plot(step, values[:, i], style, color=color, lw=1.3, label=label)
    axes.legend(fontsize=7, frameon=False)
    _over_steps(axes, run, "Text, dither, noise …: bits per pixel")


def _draw_legend(axes: Any, run: _Run) -> None:
    axes.set_axis_off()
    newest = _last(run.rows, "qstep")
    lines = [axes.plot([], [], color=color, lw=5)[0] for color in run.colors]
    names = [f"Δ = {qstep:.3g}" if np.isfinite(qstep) else "not yet drawn" for qstep in newest]
    columns = 1 + (len(names) > 8)
    title = "newest Δ of each rate" if _qsteps_change(run) else "rates"
    axes.legend(lines, names, loc="center", fontsize=9, frameon=False, title=title, ncols=columns)


def _qsteps_change(run: _Run) -> bool:
    values = _series(run.rows, "qstep")[1]
    if values.ndim < 2:
        return False
    values = np.where(np.isfinite(values), values, _last(run.rows, "qstep"))
    return bool(np.any(values.max(0) > 1.001 * values.min(0)))


def _has(name: str, rates_only: bool = False) -> Callable[[_Run], bool]:
    def holds(run: _Run) -> bool:
        values = _series(run.rows, name)[1]
        return bool(np.isfinite(values).any()) and (values.ndim == 2 or not rates_only)

    return holds


_PANELS: tuple[tuple[Callable[[_Run], bool], Callable[[Any, _Run], None]], ...] = (
    (lambda run: bool(run.rows or run.validations), _draw_loss),
    (_has("bpp"), _draw_bpp),
    (_has("psnr"), _draw_psnr),
    (lambda run: bool(run.validations), _draw_curve),
    (lambda run: any("unnatural" in v for v in run.validations), _draw_unnatural),
    (_has("weight", rates_only=True), _draw_weight),
    (_has("gradient_norm"), _draw_gradient_norm),
    (_has("skipped"), _draw_outliers),
    (_has("cosine", rates_only=True), _draw_cosine),
    (_qsteps_change, _draw_qstep),
    (lambda run: len(run.colors) > 0, _draw_legend),
)
