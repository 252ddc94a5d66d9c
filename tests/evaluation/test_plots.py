"""Claims about the plot of curves."""

import io

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("matplotlib")

from jvrc.evaluation import plots

CURVE = np.array([[0.1, 28.0], [0.5, 33.0], [2.0, 40.0]])


def size_of(curves):
    with Image.open(io.BytesIO(plots.rd_plot(curves, ["ours"], [], "title"))) as img:
        assert img.format == "PNG"
        return img.size


def test_rates_beside_ours_are_drawn_where_there_is_another_curve():
    alone, two = (size_of({"psnr": c}) for c in ({"ours": CURVE}, {"ours": CURVE, "b": CURVE}))
    assert alone[0] == two[0]
    assert two[1] > 1.4 * alone[1]


def test_each_metric_has_a_column():
    found = {"ours": CURVE, "b": CURVE + [0, 1]}
    one = size_of({"psnr": found})
    assert size_of({"psnr": found, "ssimulacra2": found, "psnr_luma": {}})[0] == 2 * one[0]


def test_a_curve_of_other_qualities_is_no_error():
    assert size_of({"psnr": {"ours": CURVE, "far": CURVE + [0, 50]}})


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match="two points"):
        size_of({"psnr": {}})
