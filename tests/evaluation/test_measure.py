"""Claims about measuring: real files, resumption, means, CSV."""

import csv
import dataclasses
import io
import json
import time

import numpy as np
import pytest
from PIL import Image

from jvrc.evaluation import measure, summary, text
from jvrc.evaluation.measure import Coder

MEAN_FIELDS = [f.name for f in dataclasses.fields(summary.Mean)]


@pytest.fixture
def folder(tmp_path, rng):
    root = tmp_path / "images"
    root.mkdir()
    for name, side in (("a.png", 170), ("b.png", 40)):
        img = rng.integers(0, 256, (side, side + 1, 3), dtype=np.uint8)
        Image.fromarray(img).save(root / name)
    return root


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def counting(version="1", settings=(1, 2)):
    """A coder that keeps setting / 4 of the grey levels' bits, and what it was asked for."""
    calls = []

    def encode(img, setting):
        calls.append((img.shape, setting))
        head = np.array(img.shape[:2], "<i4").tobytes()
        return head + (img >> setting << setting).tobytes()

    def decode(data):
        return np.frombuffer(data[8:], np.uint8).reshape(*np.frombuffer(data[:8], "<i4"), 3)

    return Coder("shift", version, "bits", settings, encode, decode), calls


def run(folder, coders, out):
    out.mkdir(exist_ok=True)
    return measure.measure(sorted(folder.iterdir()), coders, out, folder)


def test_points_are_in_order_and_hold_what_the_files_say(folder, tmp_path):
    points = run(folder, [counting()[0]], tmp_path / "out")
    assert [(p.image, p.setting) for p in points] == [
        ("a.png", 1), ("a.png", 2), ("b.png", 1), ("b.png", 2),
    ]  # fmt: skip
    first = points[0]
    assert first.bytes == 8 + 170 * 171 * 3
    assert first.bpp == 8 * first.bytes / (170 * 171)
    # the lowest bit of half of the samples is lost: MSE 1/2
    assert first.psnr == pytest.approx(10 * np.log10(255**2 / 0.5), abs=0.02)
    assert 0 < first.ms_ssim < 1
    assert points[2].ms_ssim is None  # too small
    assert first.ssimulacra2 is None


def test_large_images_are_measured_by_every_metric(rng):
    img = rng.integers(0, 256, (225, 230, 3), dtype=np.uint8)
    found = measure.quality(img, img >> 2 << 2)
    assert None not in found.values()
    assert found["ssimulacra2"] < 100


def test_processor_seconds_are_those_of_the_work(folder, tmp_path):
    def encode(img, setting):
        end = time.process_time() + setting
        while time.process_time() < end:
            pass
        return coder.encode(img, 0)

    coder, _ = counting(settings=(0.05,))
    slow = coder._replace(encode=encode, decode=lambda data: coder.decode(data))
    for point in run(folder, [slow], tmp_path / "out"):
        assert 0.05 <= point.encode_cpu_s < 0.05 + point.encode_s
        assert point.decode_cpu_s < point.encode_cpu_s


def test_an_image_that_comes_back_unchanged_has_no_psnr(folder, tmp_path):
    points = run(folder, [counting(settings=(0,))[0]], tmp_path / "out")
    assert {p.psnr for p in points} == {p.psnr_luma for p in points} == {None}
    (mean,) = summary.means(points)
    assert mean.psnr is None
    assert summary.curves([mean], "psnr") == {}


def test_a_second_run_measures_nothing_again(folder, tmp_path):
    first = run(folder, [counting()[0]], tmp_path / "out")
    coder, calls = counting()
    assert run(folder, [coder], tmp_path / "out") == first
    assert calls == []


def test_a_killed_run_goes_on_where_it_stopped(folder, tmp_path):
    run(folder, [counting()[0]], tmp_path / "out")
    journal = tmp_path / "out" / measure.JOURNAL
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:2]) + lines[2][:40])
    coder, calls = counting()
    points = run(folder, [coder], tmp_path / "out")
    assert len(points) == 4
    assert {shape for shape, _ in calls} == {(40, 41, 3)}
    assert len(journal.read_bytes().splitlines()) == 4


def test_changed_images_and_coders_are_measured_anew(folder, tmp_path):
    run(folder, [counting()[0]], tmp_path / "out")
    Image.open(folder / "b.png").rotate(180).save(folder / "b.png")
    coder, calls = counting()
    run(folder, [coder], tmp_path / "out")
    assert {shape for shape, _ in calls} == {(40, 41, 3)}
    other, calls = counting(version="2")
    run(folder, [other], tmp_path / "out")
    assert {shape for shape, _ in calls} == {(170, 171, 3), (40, 41, 3)}


def test_means_are_over_the_images(folder, tmp_path):
    points = run(folder, [counting()[0]], tmp_path / "out")
    one, two = summary.means(points)
    assert (one.setting, two.setting, one.images) == (1, 2, 2)
    assert one.bpp == pytest.approx((points[0].bpp + points[2].bpp) / 2)
    assert one.psnr == pytest.approx((points[0].psnr + points[2].psnr) / 2)
    assert one.ms_ssim is one.ms_ssim_db_of_mean is one.ms_ssim_mean_of_db is None  # b has none


def test_the_mean_ms_ssim_is_in_decibels_in_two_ways(folder, tmp_path):
    point = run(folder, [counting(settings=(1,))[0]], tmp_path / "out")[0]
    points = [dataclasses.replace(point, ms_ssim=s) for s in (0.9, 0.99)]
    (mean,) = summary.means(points)
    assert mean.ms_ssim == pytest.approx(0.945)
    assert mean.ms_ssim_db_of_mean == pytest.approx(-10 * np.log10(1 - 0.945))
    assert mean.ms_ssim_mean_of_db == pytest.approx((10 + 20) / 2)
    (mean,) = summary.means([points[0], dataclasses.replace(point, ms_ssim=1.0)])
    assert mean.ms_ssim_db_of_mean == pytest.approx(-10 * np.log10(0.05))
    assert mean.ms_ssim_mean_of_db is None


def test_csv_has_a_line_for_each_point(folder, tmp_path):
    points = run(folder, [counting()[0]], tmp_path / "out")
    rows = list(csv.DictReader(io.StringIO(summary.points_csv(points))))
    assert [(r["image"], float(r["psnr"])) for r in rows] == [(p.image, p.psnr) for p in points]


def test_bd_rates_are_between_all_that_share_a_range():
    curve = np.array([[0.1, 28.0], [0.25, 30.5], [0.5, 33.0], [1.0, 36.0]])
    found = {"a": curve, "b": curve * [0.8, 1], "far": curve + [0, 50]}
    pairs = {(p.anchor, p.test): p for p in summary.bd_rates(found, "psnr")}
    assert set(pairs) == {("a", "b"), ("b", "a")}
    assert pairs["a", "b"].percent == pytest.approx(-20)
    assert (pairs["a", "b"].low, pairs["a", "b"].high) == (28, 36)
    assert pairs["a", "b"].covered == pytest.approx(1)
    limited = summary.bd_rates(found, "psnr", (0.2, 0.5))
    assert all(p.low > 28 for p in limited)
    assert {p.rates for p in limited} == {(0.2, 0.5)}
    assert all(p.covered == pytest.approx(1) for p in limited)
    beyond = {p.test: p for p in summary.bd_rates(found, "psnr", (0.5, 2.0))}
    assert beyond["a"].covered == pytest.approx(1 / 2)  # its curve ends at 1 bpp
    assert beyond["b"].covered == pytest.approx(np.log(0.8 / 0.5) / np.log(4))


def test_tables_of_bd_rates_have_a_line_an_anchor_and_a_column_a_metric():
    pairs = [
        summary.BdRate("psnr", (0.1, 0.3), "JPEG", "ours", -54.46, 28.0, 31.0, 1.0),
        summary.BdRate("ssimulacra2", (0.1, 0.3), "JPEG", "ours", 3.0, 10.0, 40.0, 0.95),
        summary.BdRate("psnr", (0.1, 0.3), "AVIF", "ours", 12.0, 28.0, 31.0, 0.31),
        summary.BdRate("psnr", None, "JPEG", "ours", -50.0, 28.0, 40.0, 1.0),
    ]
    first, second = text.bd_rate_tables(pairs).split("\n\n")
    assert [line.split() for line in first.splitlines()[2:]] == [
        ["JPEG", "-54.5", "+3.0"], ["AVIF", "+12.0", "(over", "31", "%)", "-"],
    ]  # fmt: skip
    assert "0.1 … 0.3 bpp" in first.splitlines()[0]
    assert "all rates" in second.splitlines()[0]
    assert second.splitlines()[1].split("  ")[-1].strip() == "PSNR (RGB), dB"


def test_curves_that_were_measured_are_read_as_published_ones(tmp_path):
    values = dict.fromkeys(MEAN_FIELDS, 0.9) | {"version": "1", "images": 3}
    values["ms_ssim_db_of_mean"] = 10.0
    rows = [
        summary.Mean(**values | {"coder": coder, "setting": q, "bpp": 1 / q, "psnr_luma": luma})
        for coder, luma in (("a", 40.0), ("b", None))
        for q in (1.0, 3.0)
    ]
    alone = dataclasses.replace(rows[0], coder="of one point")
    (tmp_path / "curves.json").write_text(summary.curves_json([*rows, alone], "a test"))
    found = summary.read_curves(tmp_path / "curves.json")
    for metric in summary.METRICS:
        expected = summary.curves(rows, metric.name)
        assert set(found[metric.name]) == set(expected)
        for name, curve in expected.items():
            np.testing.assert_allclose(found[metric.name][name], curve, rtol=1e-5)
    assert set(found["psnr_luma"]) == {"a"}


def test_published_curves_are_read_and_others_refused(tmp_path):
    path = tmp_path / "curves.json"
    x, y = ({"bpp": [1, 2], "psnr_rgb_db": [30, 33]} for _ in range(2))
    path.write_text(json.dumps({"curves": {"x": x, "y": y | {"ms_ssim": [0.9, 0.99]}}}))
    found = summary.read_curves(path)
    assert found["psnr"]["x"].tolist() == [[1, 30], [2, 33]]
    assert {n: c.round(9).tolist() for n, c in found["ms_ssim_db_of_mean"].items()} == {
        "y": [[1, 10], [2, 20]]
    }
    for content in ("", "[]", '{"curves": {"x": {"bpp": [1]}}}', '{"curves": {"x": [1]}}'):
        path.write_text(content)
        with pytest.raises(ValueError, match="curves must be JSON like"):
            summary.read_curves(path)
    path.write_bytes(b"\x89PNG" + bytes(10**4))
    with pytest.raises(ValueError, match="UnicodeDecodeError: 'utf-8' codec") as caught:
        summary.read_curves(path)
    assert len(str(caught.value)) < 400
