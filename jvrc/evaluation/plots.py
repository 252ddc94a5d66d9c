"""Plots of rate-distortion curves, and of the rates that coders need beside one of them."""

from io import BytesIO
from itertools import cycle
from typing import Any

import numpy as np

from jvrc.evaluation import rd
from jvrc.evaluation.summary import METRICS
from jvrc.runtime import extras

_LABELS = dict(METRICS)
_OURS = {"lw": 2.5, "marker": "o", "ms": 4}
_PUBLISHED = {"lw": 1.0, "ls": "--"}
_OTHERS = {"lw": 1.2, "marker": "."}
_BESIDE = (-35.0, 65.0)  # percent that are shown

Curves = dict[str, np.ndarray]  # {name: [n,2] of bpp and dB}
Limits = tuple[float, float]


def rd_plot(curves: dict[str, Curves], ours: list[str], published: list[str], title: str) -> bytes:
    """Return a PNG with a panel of curves for each metric that has any, over log rate.

    Below it, where there are two curves or more, a panel shows by how many percent the rate of each
    coder is above that of the first of `ours` at equal quality; its x axis is the rate of the
    latter. Panels show the rates that `ours` cover.

    curves: by metric, a name of summary.METRICS. Those named in `ours` are drawn bold, those in
    `published` dashed, the others thin.

    Raises:
      ImportError: matplotlib is missing.
      ValueError: there is no curve.
    """
    extras.require("eval")
    from matplotlib.figure import Figure

    panels = {metric: found for metric, found in curves.items() if found}
    if not panels:
        raise ValueError("curves must hold two points of a coder or more; got none")
    styles, limits = _styles(panels, ours, published), _limits(panels, ours)
    columns, heights = 2 * len(panels), (3, 2) if len(styles) > 1 else (3,)
    height = 1.45 * sum(heights) + 0.2 * -(-len(styles) // columns)  # the legend stands below
    figure = Figure(figsize=(5.2 * len(panels), height), layout="constrained")
    rows = {"nrows": len(heights), "height_ratios": heights}
    grid = figure.subplots(ncols=len(panels), sharex=True, squeeze=False, **rows)
    for axes, (metric, found) in zip(grid.T, panels.items(), strict=True):
        _draw(axes[0], found, styles, limits)
        axes[0].set_ylabel(_LABELS[metric])
        for lower in axes[1:]:
            anchor = next((name for name in ours if name in found), next(iter(found)))
            _draw_beside(lower, found, styles, anchor)
        axes[-1].set_xlabel("bits per pixel")
    grid[0, 0].set_xlim(limits)
    lines = {line.get_label(): line for axes in grid[0] for line in axes.get_lines()}
    figure.legend(lines.values(), lines, loc="outside lower center", ncols=columns, fontsize=8)
    figure.suptitle(title, fontsize=11)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _limits(panels: dict[str, Curves], ours: list[str]) -> Limits:
    """Return the rates to show, in bpp: those of `ours`, or all if none of them has a curve."""
    shown = [c for found in panels.values() for name, c in found.items() if name in ours]
    every = [c for found in panels.values() for c in found.values()]
    rates = np.concatenate(shown or every)[:, 0]
    return 0.9 * rates.min(), 1.1 * rates.max()


def _styles(panels: dict[str, Curves], ours: list[str], published: list[str]) -> dict[str, dict]:
    """Return how the curve of each coder is drawn, in all panels alike."""
    from matplotlib import colormaps

    names = list(dict.fromkeys(name for found in panels.values() for name in found))
    colours = cycle(colormaps["tab10" if len(names) <= 10 else "tab20"].colors)
    return {
        name: _style(name, ours, published) | {"color": colour}
        for name, colour in zip(names, colours, strict=False)
    }


def _style(name: str, ours: list[str], published: list[str]) -> dict[str, Any]:
    if name in ours:
        return _OURS
    return _PUBLISHED if name in published else _OTHERS


def _draw(axes: Any, curves: Curves, styles: dict[str, dict], limits: Limits) -> None:
    """Draw curves where their rates are within the limits."""
    from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

    low, high = limits
    seen = []
    for name, curve in curves.items():
        rows = curve[np.argsort(curve[:, 0])]
        axes.plot(*rows.T, label=name, **styles[name])
        seen.append(rows[(rows[:, 0] >= low) & (rows[:, 0] <= high), 1])
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    if found := np.concatenate(seen).tolist():
        margin = 0.03 * (max(found) - min(found)) or 1.0
        axes.set_ylim(min(found) - margin, max(found) + margin)
    axes.grid(alpha=0.3)


def _draw_beside(axes: Any, curves: Curves, styles: dict[str, dict], anchor: str) -> None:
    """Draw the rate of each curve beside that of the anchor, at equal quality."""
    for name, curve in curves.items():
        try:
            beside = rd.rates_beside(curves[anchor], curve)
        except ValueError:  # no quality that both have
            continue
        axes.plot(*beside.T, **styles[name] | {"marker": ""})
    axes.set_ylim(_BESIDE)
    axes.set_ylabel(f"bits at equal quality,\n% above {anchor}")
    axes.grid(alpha=0.3)
