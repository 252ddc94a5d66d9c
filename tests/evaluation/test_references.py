"""Our metrics give the numbers of other implementations (tests/golden/metrics/make.py)."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from jvrc.evaluation.metrics import ms_ssim, psnr, ssimulacra2
from jvrc.evaluation.rd import bd_rate, common_range

FOLDER = Path(__file__).parent.parent / "golden" / "metrics"
STORED = json.loads((FOLDER / "references.json").read_text())


def load_pictures():
    spec = importlib.util.spec_from_file_location("pictures", FOLDER / "pictures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PICTURES = load_pictures()


@pytest.mark.parametrize("i", range(len(PICTURES.CASES)))
def test_psnr_is_that_of_scikit_image(i):
    assert psnr(*PICTURES.pair(*PICTURES.CASES[i])) == pytest.approx(STORED["psnr"][i], abs=1e-6)


@pytest.mark.parametrize("i", range(len(PICTURES.CASES)))
def test_ms_ssim_is_that_of_pytorch_msssim(i):
    # which rounds its window to float32
    ours = ms_ssim(*PICTURES.pair(*PICTURES.CASES[i]))
    assert ours == pytest.approx(STORED["ms_ssim"][i], abs=3e-6)


@pytest.mark.parametrize("i", range(len(PICTURES.LARGE_CASES)))
def test_ssimulacra2_is_that_of_libjxl(i):
    # which rounds to float32
    ours = ssimulacra2(*PICTURES.pair(*PICTURES.LARGE_CASES[i]))
    assert ours == pytest.approx(STORED["ssimulacra2"][i], abs=0.01)


@pytest.mark.parametrize("names", STORED["bd_rate"])
def test_bd_rate_is_that_of_bjontegaard(names):
    anchor, test = (np.array(PICTURES.CURVES[name]) for name in names.split())
    assert bd_rate(anchor, test) == pytest.approx(STORED["bd_rate"][names], abs=1e-9)


def test_the_common_range_is_what_both_curves_cover():
    five, short = (np.array(PICTURES.CURVES[name]) for name in ("five", "short"))
    assert common_range(five, short) == common_range(short, five) == (31.0, 37.5)


def test_ssimulacra2_of_equal_images_is_100_and_of_small_ones_refused():
    img = np.random.default_rng(0).integers(0, 256, (225, 230, 3), dtype=np.uint8)
    assert ssimulacra2(img, img) == 100
    with pytest.raises(ValueError, match=r"ssimulacra2: sides .* 225 pixels, got \[224, 230\]"):
        ssimulacra2(img[1:], img[1:])


def test_ms_ssim_of_equal_images_is_one_and_of_small_ones_refused():
    img, _ = PICTURES.pair(161, 170, 4)
    assert ms_ssim(img, img) == 1
    with pytest.raises(ValueError, match=r"at least 161 pixels, got \[160, 170\]"):
        ms_ssim(img[1:], img[1:])
