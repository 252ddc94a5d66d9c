"""Claims about frozen models: their ids, and what is looked up in their tables."""

from pathlib import Path

import numpy as np
import pytest

import jvrc
from jvrc.frozen.file import read_model
from jvrc.qstep import QSTEP_CODE_MAX, QSTEP_CODE_MIN

GOLDEN = Path(__file__).parents[1] / "golden"

# Streams name the model that made them by this id: no change of the code may change it.
IDS = {
    "bmshj2018-hyperprior": "ca2d989f",
    "jvrc2026": "78aa5715",
    "mbt2018": "34c321b1",
    "mbt2018-mean": "a85926fd",
    "tiny-2026": "3445fb7f",
    "tiny-context": "b4011293",
    "tiny-linear": "c1fad037",
    "tiny-mean": "5ecf3e9f",
    "tiny-refined": "1565414c",
    "tiny-scale": "961f818f",
}
FILES = jvrc.models() | {path.stem: path for path in GOLDEN.glob("v?/*.safetensors")}


def test_the_ids_of_all_shipped_and_golden_models_are_pinned():
    assert set(FILES) == set(IDS)


@pytest.mark.parametrize("name", IDS)
def test_a_models_arrays_and_config_give_its_id(name):
    assert read_model(FILES[name]).model_id == IDS[name]


@pytest.mark.parametrize("code", [QSTEP_CODE_MIN, 0, QSTEP_CODE_MAX])
def test_delta_is_the_tables_entry_in_units_of_a_512th(code):
    model = read_model(FILES["tiny-mean"])
    index = np.random.default_rng(0).integers(0, 90, (4, 5, 3), np.uint8)
    found = model.delta(index, code)
    assert (found.shape, found.dtype) == (index.shape, np.float32)
    np.testing.assert_array_equal(found * 512, model.offsets[code + 128][index])


@pytest.mark.parametrize("code", [QSTEP_CODE_MIN - 1, QSTEP_CODE_MAX + 1])
def test_there_is_no_delta_of_a_code_outside_the_grid(code):
    with pytest.raises(ValueError, match="qstep code must be in -128"):
        read_model(FILES["tiny-mean"]).delta(np.zeros(1, np.uint8), code)
