"""Rate-distortion curves as a picture."""

from io import BytesIO

import numpy as np

from jvrc.evaluation.summary import METRICS
from jvrc.runtime import extras

_LABELS = dict(zip(METRICS, ("PSNR (RGB), dB", "PSNR (luma), dB", "MS-SSIM, dB"), strict=True))


def rd_plot(
    curves: dict[str, dict[str, np.ndarray]], ours: list[str], published: list[str], title: str
) -> bytes:
    """A PNG with a panel for each metric that has curves.

    curves: {metric: {name: [n,2] of bpp and dB}}. Those in `ours` are drawn bold, those in
    `published` dashed, the others thin.

    Raises:
      ImportError: matplotlib is missing.
      ValueError: there is no curve.
    """
    extras.require("eval")
    from matplotlib.figure import Figure

    panels = [metric for metric in curves if curves[metric]]
    if not panels:
        raise ValueError("curves must hold two points of a coder or more; got none")
    names = list(dict.fromkeys(name for metric in panels for name in curves[metric]))
    colors = {name: f"C{i % 10}" for i, name in enumerate(names)}
    figure = Figure(figsize=(6.4 * len(panels), 5), layout="constrained")
    widest = max(c[:, 0].max() for m in panels for n, c in curves[m].items() if n not in published)
    for place, metric in enumerate(panels, 1):
        axes = figure.add_subplot(1, len(panels), place)
        for name, curve in curves[metric].items():
            style = {"lw": 1.2, "marker": "."}
            if name in ours:
                style = {"lw": 2.5, "marker": "o", "ms": 4}
            elif name in published:
                style = {"lw": 1.0, "ls": "--"}
            rows = curve[np.argsort(curve[:, 0])]
            axes.plot(*rows.T, label=name, color=colors[name], **style)
        axes.set(xlabel="bits per pixel", ylabel=_LABELS[metric], xlim=(0, widest * 1.02))
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right", fontsize=8)
    figure.suptitle(title, fontsize=11)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
