"""Summaries of measured points: means over images, curves, BD-rates, CSV; published curves."""

import csv
import io
import itertools
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import fmean

import numpy as np

from jvrc.evaluation import metrics, rd
from jvrc.evaluation.measure import Point

METRICS = ("psnr", "psnr_luma", "ms_ssim_db")  # the distortions of curves, all in dB


@dataclass(frozen=True)
class Mean:
    """The means of one coder at one setting over all images.

    A distortion is None if an image has none (see `Point`). ms_ssim_db: the mean MS-SSIM in dB.
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
    ms_ssim_db: float | None
    encode_s: float
    decode_s: float


@dataclass(frozen=True)
class BdRate:
    """The BD-rate of `test` against `anchor` in percent, over low … high dB of a metric."""

    metric: str
    anchor: str
    test: str
    percent: float
    low: float
    high: float


def means(points: list[Point]) -> list[Mean]:
    """Return the means of each coder at each setting, in the order of the points."""
    groups: dict[tuple, list[Point]] = {}
    for point in points:
        groups.setdefault((point.coder, point.version, point.setting), []).append(point)
    return [_mean(*key, group) for key, group in groups.items()]


def _mean(coder: str, version: str, setting: float, group: list[Point]) -> Mean:
    def mean(name: str) -> float | None:
        values = [getattr(p, name) for p in group]
        return None if None in values else fmean(values)

    similarity = mean("ms_ssim")
    decibels = None if similarity in (None, 1.0) else metrics.in_decibels(similarity)
    same = ("bytes", "bpp", "psnr", "psnr_luma", "ms_ssim", "encode_s", "decode_s")
    values = {name: mean(name) for name in same} | {"ms_ssim_db": decibels}
    return Mean(coder=coder, version=version, setting=setting, images=len(group), **values)


def curves(rows: Iterable[Mean], metric: str) -> dict[str, np.ndarray]:
    """Return {coder: [n,2] of bpp and dB} of the coders with two points or more."""
    found: dict[str, list] = {}
    for row in rows:
        value = getattr(row, metric)
        if value is not None:
            found.setdefault(row.coder, []).append((row.bpp, value))
    return {name: np.array(rows) for name, rows in found.items() if len(rows) > 1}


def bd_rates(
    found: dict[str, np.ndarray], metric: str, rates: tuple[float, float] | None = None
) -> list[BdRate]:
    """Return the BD-rate of every curve against every other one with which it shares a range of dB.

    rates: the part of the tested curve that counts, in bpp.
    """
    pairs = []
    for anchor, test in itertools.permutations(found, 2):
        try:
            tested = rd.between_rates(found[test], *rates) if rates else found[test]
            low, high = rd.common_range(found[anchor], tested)
            percent = rd.bd_rate(found[anchor], tested)
        except ValueError:  # no common range, or a curve that falls
            continue
        pairs.append(BdRate(metric, anchor, test, percent, low, high))
    return pairs


def read_curves(path: Path) -> dict[str, np.ndarray]:
    """Read published curves from a JSON file: return {name: [n,2] of bpp and RGB PSNR in dB}.

    The file holds {"curves": {NAME: {"bpp": [...], "psnr_rgb_db": [...]}}}.

    Raises:
      ValueError: it holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["curves"]
        return {
            name: np.array([c["bpp"], c["psnr_rgb_db"]], np.float64).T for name, c in found.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{path}: curves must be JSON like {{"curves": {{NAME: {{"bpp": [...], '
            f'"psnr_rgb_db": [...]}}}}}}; {error!r}'
        ) from error


def points_csv(points: list[Point]) -> str:
    """Return the points as CSV with a line of field names."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [f.name for f in fields(Point)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(p) for p in points)
    return buffer.getvalue()
