"""Summaries of measured points: means over images, curves, BD-rates, CSV; published curves."""

import csv
import io
import itertools
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np

from jvrc.evaluation import metrics, rd
from jvrc.evaluation.measure import Point


class Metric(NamedTuple):
    """A distortion of curves: a field of `Mean`, and what tables and plots call it."""

    name: str
    title: str


METRICS = (
    Metric("psnr", "PSNR (RGB), dB"),
    Metric("psnr_luma", "PSNR (luma), dB"),
    Metric("ms_ssim_db_of_mean", "MS-SSIM, dB of mean"),
    Metric("ms_ssim_mean_of_db", "MS-SSIM, mean of dB"),
    Metric("ssimulacra2", "SSIMULACRA 2"),
)
# What files of curves call these; MS-SSIM is the mean, not in dB.
_KEYS = {
    "psnr": "psnr_rgb_db",
    "psnr_luma": "psnr_luma_db",
    "ms_ssim_db_of_mean": "ms_ssim",
    "ms_ssim_mean_of_db": "ms_ssim_mean_of_db",
    "ssimulacra2": "ssimulacra2",
}
ENDS = ((0.1, 0.3), (1.0, 2.0))  # bpp: low and high rates, which BD-rates are given for too
MOSTLY = 0.9  # of a range of rates, in ln: tables mark BD-rates that cover less of it


@dataclass(frozen=True)
class Mean:
    """The means of one coder at one setting over all images.

    A distortion is None if an image has none (see `Point`). ms_ssim_db_of_mean: -10 log10(1 - s) of
    the mean MS-SSIM s, as CompressAI has it and so most papers on learned compression;
    ms_ssim_mean_of_db: the mean over images of the MS-SSIM of each in dB.
    """

    coder: str
    version: str
    setting: float
    images: int
    bytes: float
    bpp: float
    psnr: float | None
    psnr_luma: float | None
    ms_ssim: float | None
    ms_ssim_db_of_mean: float | None
    ms_ssim_mean_of_db: float | None
    ssimulacra2: float | None
    encode_s: float
    decode_s: float
    encode_cpu_s: float
    decode_cpu_s: float


@dataclass(frozen=True)
class BdRate:
    """The BD-rate of `test` against `anchor` in percent, over low … high of a metric.

    rates: the part of the tested curve that counts, in bpp; None: all of it. covered: how much of
    that low … high is, in ln of the rate, 0 … 1: less than 1 where a curve does not reach its ends.
    """

    metric: str
    rates: tuple[float, float] | None
    anchor: str
    test: str
    percent: float
    low: float
    high: float
    covered: float


def means(points: list[Point]) -> list[Mean]:
    """Return the means of each coder at each setting, in the order of the points."""
    groups: dict[tuple, list[Point]] = {}
    for point in points:
        groups.setdefault((point.coder, point.version, point.setting), []).append(point)
    return [_mean(*key, group) for key, group in groups.items()]


def _mean(coder: str, version: str, setting: float, group: list[Point]) -> Mean:
    def mean(values: Iterable[float | None]) -> float | None:
        values = list(values)
        return None if None in values else fmean(values)

    names = {f.name for f in fields(Mean)} & {f.name for f in fields(Point)}
    names -= {"coder", "version", "setting"}
    values = {name: mean(getattr(p, name) for p in group) for name in names}
    values["ms_ssim_db_of_mean"] = _decibels(values["ms_ssim"])
    values["ms_ssim_mean_of_db"] = mean(_decibels(p.ms_ssim) for p in group)
    return Mean(coder=coder, version=version, setting=setting, images=len(group), **values)


def _decibels(similarity: float | None) -> float | None:
    return None if similarity in (None, 1.0) else metrics.in_decibels(similarity)


def curves(rows: Iterable[Mean], metric: str) -> dict[str, np.ndarray]:
    """Return {coder: [n,2] of bpp and metric} of the coders with two points or more."""
    found: dict[str, list] = {}
    for row in rows:
        value = getattr(row, metric)
        if value is not None:
            found.setdefault(row.coder, []).append((row.bpp, value))
    return {name: np.array(rows) for name, rows in found.items() if len(rows) > 1}


def bd_rates(
    found: dict[str, np.ndarray], metric: str, rates: tuple[float, float] | None = None
) -> list[BdRate]:
    """Return the BD-rate of every curve against every other one with which it shares a range.

    metric: its name. rates: the part of the tested curve that counts, in bpp.
    """
    pairs = []
    for anchor, test in itertools.permutations(found, 2):
        try:
            tested = rd.between_rates(found[test], *rates) if rates else found[test]
            low, high = rd.common_range(found[anchor], tested)
            percent = rd.bd_rate(found[anchor], tested)
            ends = rates or (found[test][:, 0].min(), found[test][:, 0].max())
            covered = rd.covered(found[anchor], tested, *ends)
        except ValueError:  # no common range, or a curve that falls
            continue
        pairs.append(BdRate(metric, rates, anchor, test, percent, low, high, covered))
    return pairs


def read_curves(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """Read published curves from a JSON file: return {metric: {name: [n,2] of bpp and metric}}.

    The file holds {"curves": {NAME: {"bpp": [...], "psnr_rgb_db": [...], "ms_ssim": [...]}}}: of
    the other metrics any may be missing. `curves_json` writes such a file.

    Raises:
      ValueError: it holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["curves"]
        return {
            metric: {
                name: _columns(c["bpp"], map(_metric_of(key), c[key]))
                for name, c in found.items()
                if key in c or metric == "psnr"
            }
            for metric, key in _KEYS.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{path}: curves must be JSON like {{"curves": {{NAME: {{"bpp": [...], '
            f'"psnr_rgb_db": [...]}}}}}}; {type(error).__name__}: {error}'
        ) from error


def _metric_of(key: str) -> Callable[[float], float]:
    """Return the function from a value of a file of curves to that of the metric."""
    return metrics.in_decibels if key == "ms_ssim" else float


def curves_json(rows: Iterable[Mean], about: str) -> str:
    """Return what `read_curves` reads: the curves of the coders with two points or more."""
    groups: dict[str, list[Mean]] = {}
    for row in rows:
        groups.setdefault(row.coder, []).append(row)
    found = {name: _curve(group) for name, group in groups.items() if len(group) > 1}
    found = {name: curve for name, curve in found.items() if _KEYS["psnr"] in curve}
    lines = [f"  {json.dumps(name)}: {json.dumps(curve)}" for name, curve in found.items()]
    return f'{{"about": {json.dumps(about)},\n "curves": {{\n' + ",\n".join(lines) + "\n }}\n"


def _curve(rows: list[Mean]) -> dict[str, list[float]]:
    """Return the settings, rates and metrics that every point has, to six significant digits."""
    keys = {"setting": "setting", "bpp": "bpp"} | _KEYS
    keys["ms_ssim"] = keys.pop("ms_ssim_db_of_mean")
    lists = {key: [getattr(row, name) for row in rows] for name, key in keys.items()}
    return {key: [float(f"{v:.6g}") for v in a] for key, a in lists.items() if None not in a}


def _columns(bpp: Iterable[float], quality: Iterable[float]) -> np.ndarray:
    return np.array([list(bpp), list(quality)], np.float64).T


def points_csv(points: list[Point]) -> str:
    """Return the points as CSV with a line of field names."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [f.name for f in fields(Point)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(p) for p in points)
    return buffer.getvalue()
