"""Plots of rate-distortion curves."""

from io import BytesIO
from typing import Any

import numpy as np

from jvrc.evaluation.summary import METRICS
from jvrc.runtime import extras

_LABELS = dict(METRICS)
_OURS = {"lw": 2.5, "marker": "o", "ms": 4}
_PUBLISHED = {"lw": 1.0, "ls": "--"}
_OTHERS = {"lw": 1.2, "marker": "."}

Curves = dict[str, np.ndarray]  # {name: [n,2] of bpp and dB}


def rd_plot(curves: dict[str, Curves], ours: list[str], published: list[str], title: str) -> bytes:
    """Return a PNG with one panel of curves for each metric that has any, over log rate.

    The panels show the rates that `ours` cover.

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
    names = list(dict.fromkeys(name for found in panels.values() for name in found))
    shown = [c for found in panels.values() for name, c in found.items() if name in ours]
    rates = np.concatenate(shown or [c for found in panels.values() for c in found.values()])[:, 0]
    limits = (0.9 * rates.min(), 1.1 * rates.max())
    styles = {
        name: _style(name, ours, published) | {"color": f"C{i % 10}"}
        for i, name in enumerate(names)
    }
    columns = 2 * len(panels)
    height = 4.6 + 0.2 * -(-len(names) // columns)  # the legend stands below the panels
    figure = Figure(figsize=(5.2 * len(panels), height), layout="constrained")
    for place, (metric, found) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(1, len(panels), place)
        _draw(axes, found, styles, limits)
        axes.set(xlabel="bits per pixel", ylabel=_LABELS[metric])
    lines = {line.get_label(): line for axes in figure.axes for line in axes.get_lines()}
    figure.legend(lines.values(), lines, loc="outside lower center", ncols=columns, fontsize=8)
    figure.suptitle(title, fontsize=11)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _style(name: str, ours: list[str], published: list[str]) -> dict[str, Any]:
    if name in ours:
        return _OURS
    return _PUBLISHED if name in published else _OTHERS


def _draw(axes: Any, curves: Curves, styles: dict[str, dict], limits: tuple[float, float]) -> None:
    """Draw curves where their rates are within the limits."""
    from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

    low, high = limits
    seen = []
    for name, curve in curves.items():
        rows = curve[np.argsort(curve[:, 0])]
        axes.plot(*rows.T, label=name, **styles[name])
        seen.append(rows[(rows[:, 0] >= low) & (rows[:, 0] <= high), 1])
    axes.set(xscale="log", xlim=limits)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    if found := np.concatenate(seen).tolist():
        margin = 0.03 * (max(found) - min(found)) or 1.0
        axes.set_ylim(min(found) - margin, max(found) + margin)
    axes.grid(alpha=0.3)
