"""The rows of tables that docs/curves/kodak.json determines, in docs/results.md and README.md.

A test compares them; `python tests/benchmarks/write_results.py` writes them.
"""

from pathlib import Path

import numpy as np

from jvrc.evaluation import rd, summary

ROOT = Path(__file__).parents[1]
CURVES = ROOT / "docs" / "curves" / "kodak.json"
MODEL = "jvrc2026"
HEADINGS = {  # of the tables in results.md, by metric
    "psnr": "At equal RGB PSNR:",
    "ms_ssim_db_of_mean": "At equal MS-SSIM:",
    "ssimulacra2": "At equal SSIMULACRA 2:",
}
CODECS = {  # of the file: in results.md
    "JPEG": "JPEG 4:2:0, progressive, optimised",
    "JPEG 4:4:4": "JPEG 4:4:4, likewise",
    "mozjpeg": "mozjpeg, as its own tool codes",
    "WebP": "WebP, method 6",
    "JPEG XL": "JPEG XL, effort 7",
    "AVIF": "AVIF 4:4:4, speed 6, tuned for PSNR",
    "AVIF, tune iq": "AVIF 4:4:4, speed 6, tuned for the eye (`iq`)",
    "AVIF, speed 0": "AVIF 4:4:4, speed 0, tuned for PSNR",
}
SETTINGS = ("", ", effort 1", ", effort 2", ", effort 2, masking")
PAIRS = {  # of settings: test and anchor
    "effort 1, against none": (", effort 1", ""),
    "effort 2, against none": (", effort 2", ""),
    "effort 2 with masking, against effort 2": (", effort 2, masking", ", effort 2"),
}
OF_README = ("JPEG", "mozjpeg", "WebP", "JPEG XL", "AVIF", "AVIF, tune iq", "AVIF, speed 0")
README_ROWS = {  # metric and setting
    "PSNR": ("psnr", ""),
    "PSNR, `--effort 1`": ("psnr", ", effort 1"),
    "SSIMULACRA 2": ("ssimulacra2", ""),
    "SSIMULACRA 2, `--effort 2 --masking`": ("ssimulacra2", ", effort 2, masking"),
}
_RATES = ((0.1, 2.0), *summary.ENDS)

Curves = dict[str, dict[str, np.ndarray]]  # by metric, then by coder


def codec_rows(curves: Curves, metric: str) -> list[str]:
    """Return the rows of results.md of one metric: a codec each, a column for each setting."""
    return [
        _row(title, [_cell(curves[metric], codec, MODEL + setting) for setting in SETTINGS])
        for codec, title in CODECS.items()
    ]


def pair_rows(curves: Curves) -> list[str]:
    """Return the rows of results.md that compare settings: a column for each metric."""
    return [
        _row(title, [_cell(curves[metric], MODEL + anchor, MODEL + test) for metric in HEADINGS])
        for title, (test, anchor) in PAIRS.items()
    ]


def readme_rows(curves: Curves) -> list[str]:
    """Return the rows of the README, without the columns of published curves: in whole percent."""
    return [
        "|".join(["", title, *(_whole(curves[metric], c, MODEL + setting) for c in OF_README)])
        for title, (metric, setting) in README_ROWS.items()
    ]


def _row(title: str, cells: list[str]) -> str:
    return f"| {' | '.join([title, *cells])} |"


def _cell(curves: dict[str, np.ndarray], anchor: str, test: str) -> str:
    """Return the BD-rate over each range of rates."""
    found = []
    for rates in _RATES:
        part = rd.between_rates(curves[test], *rates)
        percent = rd.bd_rate(curves[anchor], part)
        whole = rd.covered(curves[anchor], part, *rates) >= summary.MOSTLY
        found.append(_printed(percent, 1) + ("" if whole else "†"))
    return "{}, **{}**, {}".format(*found)


def _whole(curves: dict[str, np.ndarray], anchor: str, test: str) -> str:
    part = rd.between_rates(curves[test], *_RATES[0])
    return _printed(rd.bd_rate(curves[anchor], part), 0)


def _printed(percent: float, digits: int) -> str:
    return f"{percent:+.{digits}f}".replace("-", "−")
