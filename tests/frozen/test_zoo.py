"""Claims about the models in the package and about loading."""

import subprocess
import sys

import pytest

import jvrc
from jvrc.frozen import zoo
from jvrc.frozen.header import read_header

MODEL = "mbt2018-mean"


def test_shipped_are_the_default_model_and_those_of_2018():
    assert zoo.DEFAULT == "jvrc2026"
    assert set(jvrc.models()) >= {zoo.DEFAULT, MODEL, "mbt2018", "bmshj2018-hyperprior"}
    assert sum(path.stat().st_size for path in jvrc.models().values()) < 60e6  # the wheel's limit


@pytest.mark.parametrize("name", zoo.models())
def test_a_shipped_model_is_what_its_name_and_header_say(name):
    path = jvrc.models()[name]
    model = jvrc.load(name)
    assert isinstance(model, jvrc.FrozenModel)
    assert name.startswith(model.config.architecture)
    assert zoo.describe(name) == read_header(path) == model.metadata
    assert zoo.name_of(model.model_id) == name
    assert {"license", "recipe", "qstep_range"} <= set(model.metadata)
    assert path.stat().st_size < 30e6


def test_a_model_loads_from_its_file_too():
    assert jvrc.load(jvrc.models()[MODEL]).model_id == jvrc.load(MODEL).model_id
    assert jvrc.load(str(jvrc.models()[MODEL])).model_id == jvrc.load(MODEL).model_id


def test_a_model_loads_by_its_id_too():
    model_id = zoo.describe(MODEL)["model_id"]
    assert jvrc.load(model_id).model_id == model_id
    assert zoo.shipped_file(model_id) == zoo.shipped_file(MODEL) == jvrc.models()[MODEL]


def test_an_unknown_id_has_no_name():
    assert zoo.name_of("00000000") is zoo.shipped_file("00000000") is None
    for name in zoo.models():
        assert f"{name} {zoo.describe(name)['model_id']}" in zoo.missing("00000000")


@pytest.mark.parametrize("name", ["no-such-model", ""])
def test_an_unknown_name_is_an_error_that_lists_the_known_ones(name):
    with pytest.raises(
        ValueError, match=f"shipped model .*{MODEL}.* or a weights file; got {name}"
    ):
        jvrc.load(name)


@pytest.mark.parametrize("path", ["no/such.safetensors", "such.safetensors", "no/model"])
def test_a_file_that_is_missing_is_named(path):
    with pytest.raises(FileNotFoundError, match=f"^{path}: no such file"):
        jvrc.load(path)


@pytest.mark.parametrize("wrong", [None, 5, b"jvrc2026"])
def test_a_name_of_another_type_is_refused(wrong):
    with pytest.raises(ValueError, match="name must be a string or a path; got "):
        jvrc.load(wrong)


def test_the_folder_of_a_run_stands_for_its_frozen_model(tmp_path):
    with pytest.raises(ValueError, match="jvrc freeze"):
        jvrc.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(jvrc.models()[MODEL].read_bytes())
    assert jvrc.load(tmp_path).model_id == jvrc.load(MODEL).model_id


@pytest.mark.parametrize("kept", [200, 100_000])
def test_a_truncated_file_is_said_to_be_so(tmp_path, kept):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(jvrc.models()[MODEL].read_bytes()[:kept])
    for read in (jvrc.load, read_header):
        with pytest.raises(ValueError, match="weights.safetensors: truncated: it has"):
            read(path)


def test_a_file_of_something_else_is_an_error(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"something else")
    with pytest.raises(ValueError, match="not a weights file"):
        jvrc.load(tmp_path / "weights.safetensors")


def test_listing_the_models_does_without_jax():
    code = (
        "import sys\n"
        "from jvrc.frozen import zoo\n"
        "print([zoo.describe(name)['model_id'] for name in zoo.models()])\n"
        "assert not {'jax', 'numpy'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
