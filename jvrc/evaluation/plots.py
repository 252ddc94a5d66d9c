"""Plots of rate-distortion curves."""

from io import BytesIO
from typing import Any

import numpy as np

from jvrc.runtime import extras

_LABELS = {
    "psnr": "PSNR (RGB), dB",
    "psnr_luma": "PSNR (luma), dB",
    "ms_ssim_db": "MS-SSIM, dB",
}
_OURS = {"lw": 2.5, "marker": "o", "ms": 4}
_PUBLISHED = {"lw": 1.0, "ls": "--"}
_OTHERS = {"lw": 1.2, "marker": "."}

Curves = dict[str, np.ndarray]  # {name: [n,2] of bpp and dB}


def rd_plot(curves: dict[str, Curves], ours: list[str], published: list[str], title: str) -> bytes:
    """Return a PNG with one panel of curves for each metric that has any.

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
    measured = [c for found in panels.values() for n, c in found.items() if n not in published]
    limit = 1.02 * max(curve[:, 0].max() for curve in measured)
    styles = {
        name: _style(name, ours, published) | {"color": f"C{i % 10}"}
        for i, name in enumerate(names)
    }
    columns = 2 * len(panels)
    height = 4.6 + 0.2 * -(-len(names) // columns)  # the legend stands below the panels
    figure = Figure(figsize=(6.4 * len(panels), height), layout="constrained")
    for place, (metric, found) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(1, len(panels), place)
        _draw(axes, found, styles)
        axes.set(xlabel="bits per pixel", ylabel=_LABELS[metric], xlim=(0, limit))
        seen = np.concatenate([curve[curve[:, 0] <= limit, 1] for curve in found.values()])
        axes.set_ylim(seen.min() - 1, seen.max() + 1)
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


def _draw(axes: Any, curves: Curves, styles: dict[str, dict]) -> None:
    for name, curve in curves.items():
        rows = curve[np.argsort(curve[:, 0])]
        axes.plot(*rows.T, label=name, **styles[name])
    axes.grid(alpha=0.3)
