"""The BD-rates of docs/results.md and of the README are those of docs/curves/kodak.json."""

import pytest
import results_rows
from results_rows import CURVES, HEADINGS, ROOT

from jvrc.evaluation import summary


@pytest.fixture(scope="module")
def curves():
    return summary.read_curves(CURVES)


def lines(name):
    return (ROOT / name).read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("metric", HEADINGS)
def test_each_codec_has_its_row(curves, metric):
    found = lines("docs/results.md")
    begin = found.index(HEADINGS[metric]) + 4
    rows = results_rows.codec_rows(curves, metric)
    assert found[begin : begin + len(rows)] == rows


def test_settings_are_compared_with_each_other(curves):
    assert set(results_rows.pair_rows(curves)) <= set(lines("docs/results.md"))


def test_the_readme_rounds_them(curves):
    for row in results_rows.readme_rows(curves):
        assert any(line.startswith(row) for line in lines("README.md"))
