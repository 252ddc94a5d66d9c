"""The results of `jvrc eval`: all that follows from measured points, and the files that hold it."""

import json
from dataclasses import asdict, dataclass

import numpy as np

from jvrc.evaluation import plots, report, summary
from jvrc.evaluation.measure import Point
from jvrc.evaluation.summary import BdRate, Mean

FILES = ("results.json", "results.csv", "curves.json", "curves.png", "report.html")
_DRAWN = ("psnr", "ms_ssim_db_of_mean", "ssimulacra2")


@dataclass(frozen=True)
class Results:
    """Points, and what is computed from them."""

    title: str
    facts: dict[str, str]  # names and values, shown as they are
    points: list[Point]
    means: list[Mean]
    curves: dict[str, dict[str, np.ndarray]]  # by metric; published ones too
    bd_rates: list[BdRate]
    published: list[str]  # names of curves that were not measured
    ours: list[str]  # names of the models' curves

    def as_json(self) -> bytes:
        """Return results.json."""
        found = {
            "facts": self.facts,
            "points": [asdict(p) for p in self.points],
            "means": [asdict(m) for m in self.means],
            "bd_rates": [asdict(p) for p in self.bd_rates],
        }
        return json.dumps(found, indent=1).encode()

    def files(self, comparisons: list[report.Comparison]) -> dict[str, bytes]:
        """Return the contents of FILES; there is no plot without a curve."""
        drawn = {metric: self.curves[metric] for metric in _DRAWN}
        names = (self.ours, self.published)
        plot = plots.rd_plot(drawn, *names, self.title) if any(drawn.values()) else b""
        about = f"{self.title}; {'; '.join(f'{k}: {v}' for k, v in self.facts.items())}"
        page = report.page(self.title, self.facts, self.means, self.bd_rates, plot, comparisons)
        contents = (
            self.as_json(),
            summary.points_csv(self.points).encode(),
            summary.curves_json(self.means, about).encode(),
            plot,
            page.encode(),
        )
        return {n: data for n, data in zip(FILES, contents, strict=True) if data}


def results_of(
    title: str,
    facts: dict[str, str],
    points: list[Point],
    ranges: tuple[tuple[float, float] | None, ...],
    published: dict[str, dict[str, np.ndarray]],
    ours: list[str],
) -> Results:
    """Return the results of points.

    ranges: of rates, in bpp, that BD-rates are computed over; None: all. published: curves of
    others, by metric. ours: the names of the models.
    """
    means = summary.means(points)
    curves = {
        m.name: summary.curves(means, m.name) | published.get(m.name, {}) for m in summary.METRICS
    }
    bd_rates = [p for r in ranges for m in curves for p in summary.bd_rates(curves[m], m, r)]
    names = list(published.get("psnr", {}))
    return Results(title, facts, points, means, curves, bd_rates, names, ours)
