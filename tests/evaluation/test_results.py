"""The BD-rates of docs/results.md and of the README are those of docs/curves/kodak.json."""

from pathlib import Path

import pytest

from jvrc.evaluation import rd, summary

ROOT = Path(__file__).parents[2]
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
OF_README = ("JPEG", "mozjpeg", "WebP", "JPEG XL", "AVIF", "AVIF, tune iq", "AVIF, speed 0")
SETTINGS = ("", ", effort 1", ", effort 2", ", effort 2, masking")
RATES = ((0.1, 2.0), *summary.ENDS)


@pytest.fixture(scope="module")
def curves():
    return summary.read_curves(ROOT / "docs" / "curves" / "kodak.json")


def bd_rates(curves, metric, codec, setting):
    """The BD-rate over each range of rates, and how much of it both curves cover."""
    test = curves[metric][f"jvrc2026{setting}"]
    parts = [rd.between_rates(test, *rates) for rates in RATES]
    anchor = curves[metric][codec]
    return [
        (rd.bd_rate(anchor, part), rd.covered(anchor, part, *rates))
        for part, rates in zip(parts, RATES, strict=True)
    ]


def printed(percent, digits=1):
    return f"{percent:+.{digits}f}".replace("-", "−")


def cell(found):
    whole, low, high = (printed(p) + ("†" if covered < 0.9 else "") for p, covered in found)
    return f"{whole}, **{low}**, {high}"


@pytest.mark.parametrize("metric", ["psnr", "ms_ssim_db_of_mean", "ssimulacra2"])
@pytest.mark.parametrize("codec", CODECS)
def test_each_codec_has_its_row(curves, metric, codec):
    cells = [cell(bd_rates(curves, metric, codec, setting)) for setting in SETTINGS]
    row = f"| {' | '.join([CODECS[codec], *cells])} |"
    assert row in (ROOT / "docs" / "results.md").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(
    ("test", "anchor", "title"),
    [
        (", effort 1", "", "effort 1, against none"),
        (", effort 2", "", "effort 2, against none"),
        (", effort 2, masking", ", effort 2", "effort 2 with masking, against effort 2"),
    ],
)
def test_efforts_are_compared_with_each_other(curves, test, anchor, title):
    metrics = ("psnr", "ms_ssim_db_of_mean", "ssimulacra2")
    cells = [cell(bd_rates(curves, metric, f"jvrc2026{anchor}", test)) for metric in metrics]
    row = f"| {' | '.join([title, *cells])} |"
    assert row in (ROOT / "docs" / "results.md").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(
    ("metric", "setting", "title"),
    [
        ("psnr", "", "PSNR"),
        ("psnr", ", effort 1", "PSNR, `--effort 1`"),
        ("ssimulacra2", "", "SSIMULACRA 2"),
        ("ssimulacra2", ", effort 2, masking", "SSIMULACRA 2, `--effort 2 --masking`"),
    ],
)
def test_the_readme_rounds_them(curves, metric, setting, title):
    cells = [printed(bd_rates(curves, metric, codec, setting)[0][0], 0) for codec in OF_README]
    row = f"|{'|'.join([title, *cells])}|"
    assert row in (ROOT / "README.md").read_text(encoding="utf-8")
