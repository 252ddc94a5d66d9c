"""Claims about the weights file and the model that is read from it."""

import contextlib
import json
from dataclasses import replace

import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy

import jvrc
from jvrc.frozen.file import fingerprint, read_model, save_model, seal, to_tensors
from jvrc.frozen.model import FrozenModel
from jvrc.integer.bounds import HIDDEN_LAYERS

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 70, 3), np.uint8)


@pytest.fixture
def file(tiny, tmp_path):
    """A weights file."""
    path = tmp_path / "model.safetensors"
    save_model(tiny, path)
    return path


def contents(path):
    with safetensors.safe_open(path, framework="numpy") as opened:
        header = json.loads(opened.metadata()["jvrc"])
    return safetensors.numpy.load_file(path), header


def write(path, tensors, header):
    path.write_bytes(safetensors.numpy.save(tensors, metadata={"jvrc": json.dumps(header)}))


def test_round_trip_gives_identical_arrays_and_id(tiny, file):
    again = read_model(file)
    assert again.model_id == tiny.model_id
    assert again.config == tiny.config
    assert again.metadata == tiny.metadata
    assert jax.tree.structure(again) == jax.tree.structure(tiny)
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(tiny), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def with_bounds(tiny):
    """The model with hidden layers of h_s that saturate at random bounds."""
    rng, layers = np.random.default_rng(0), dict(tiny.fixed_point_format.layers)
    for name in HIDDEN_LAYERS:
        size = layers[name].shift.shape
        bounds = {"low": rng.integers(-9, 1, size), "high": rng.integers(1, 256, size)}
        layers[name] = layers[name]._replace(**{k: v.astype(np.int16) for k, v in bounds.items()})
    return seal(replace(tiny, fixed_point_format=tiny.fixed_point_format._replace(layers=layers)))


BOUNDS = ("units/low/0", "units/low/1", "units/high/0", "units/high/1")


def test_bounds_are_arrays_of_the_file_and_part_of_the_id(tiny_2018, tmp_path):
    tiny = tiny_2018
    bounded = with_bounds(tiny)
    save_model(bounded, tmp_path / "model.safetensors")
    tensors, header = contents(tmp_path / "model.safetensors")
    assert set(BOUNDS) == set(tensors) - set(to_tensors(tiny))
    assert all(tensors[name].dtype == np.int16 for name in BOUNDS)
    assert header["model_id"] == bounded.model_id != tiny.model_id
    again = read_model(tmp_path / "model.safetensors")
    assert jax.tree.structure(again) == jax.tree.structure(bounded)
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(bounded), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", BOUNDS)
def test_damaged_bounds_are_refused(tiny, tmp_path, name):
    """With an id that fits them: they are read, and checked."""
    path = tmp_path / "model.safetensors"
    tensors = to_tensors(with_bounds(tiny))
    missing = {k: v for k, v in tensors.items() if k != name}
    beyond = tensors | {name: np.full_like(tensors[name], -300 if "low" in name else 300)}
    wide, short = tensors[name].astype(np.int32), tensors[name][:-1].copy()
    for damaged in (missing, beyond, tensors | {name: wide}, tensors | {name: short}):
        header = tiny.metadata | {"model_id": fingerprint(damaged, tiny.config)}
        write(path, damaged, header)
        assert "the bounds of h_s/deconv" in refusal(path)


@pytest.mark.parametrize(
    "unit",
    [
        *(np.array([value], np.int8) for value in (-9, 9, 127, -128)),
        *(np.zeros(size, np.int8) for size in ((), 0, 2, (1, 1))),
        *(np.zeros(1, kind) for kind in (np.int16, np.uint8, np.float32)),
    ],
    ids=str,
)
def test_a_damaged_unit_of_z_is_refused(tiny_2026, tmp_path, unit):
    """With an id that fits it: it is read, and checked."""
    path, tensors = tmp_path / "model.safetensors", to_tensors(tiny_2026) | {"units/z/0": unit}
    header = tiny_2026.metadata | {"model_id": fingerprint(tensors, tiny_2026.config)}
    write(path, tensors, header)
    assert "z's unit must be int8 [1] in -8 ... 8" in refusal(path)


@pytest.mark.parametrize("part", ["context/in1", "context/block0/wide", "g_s/up", "g_s/last"])
def test_weights_of_another_shape_are_refused(tiny_2026, tmp_path, part):
    name, path = f"params/{part}/kernel", tmp_path / "model.safetensors"
    kernel = to_tensors(tiny_2026)[name]
    for other in (kernel.T, kernel[:-1], kernel[:, :-1], kernel[None], kernel.ravel()):
        changed = to_tensors(tiny_2026) | {name: np.ascontiguousarray(other)}
        write(path, changed, tiny_2026.metadata)
        assert "the arrays give the fingerprint" in refusal(path)


def test_saving_again_gives_the_same_bytes(file, tmp_path):
    save_model(read_model(file), tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == file.read_bytes()


def test_kernels_are_stored_in_half_precision_and_all_else_whole(file):
    for name, value in contents(file)[0].items():
        half = name.startswith("params/") and name.endswith("/kernel")
        assert (value.dtype == np.float16) == half, name


def test_every_array_and_the_sizes_make_the_id(tiny):
    tensors = to_tensors(tiny)
    assert fingerprint(tensors, tiny.config) == tiny.model_id
    ids = {tiny.model_id}
    for name, value in tensors.items():
        changed = value.copy()
        changed.view(np.uint8).flat[-1] ^= 1
        ids.add(fingerprint(tensors | {name: changed}, tiny.config))
    ids.add(fingerprint(tensors, replace(tiny.config, latent_scale=2.0)))
    assert len(ids) == len(tensors) + 2


def test_a_flipped_bit_in_any_array_is_noticed(tiny, file):
    tensors, header = contents(file)
    for name in ("params/h_s/conv2/kernel", "z_tables/freq", "offsets"):
        changed = tensors[name].copy()
        changed.view(np.uint8).flat[0] ^= 1
        write(file, tensors | {name: changed}, header)
        with pytest.raises(ValueError, match=f"damaged: .* the header says {tiny.model_id}$"):
            read_model(file)


def refusal(path):
    """The message with which a file is refused."""
    with pytest.raises(ValueError) as caught:
        read_model(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < 400
    return message


@pytest.mark.parametrize("data", [b"", b"\x00" * 8, b"jvrc", b"\xff" * 100, b"\x89PNG\r\n" * 50])
def test_no_safetensors_file_is_refused(tmp_path, data):
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    assert "not a weights file" in refusal(path)


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"format": "pt"},
        {"jvrc": ""},
        {"jvrc": "[1]"},
        {"jvrc": "{}"},
        {"jvrc": '{"format": "jvrc-frozen-1"}'},
        {"jvrc": '{"format": "jvrc-frozen-99", "model_id": "00000000"}'},
    ],
)
def test_a_foreign_safetensors_file_is_refused(tmp_path, metadata):
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors.numpy.save({"weight": np.zeros(3)}, metadata=metadata))
    assert "not a weights file" in refusal(path)


def test_a_cut_file_is_refused(file):
    data = file.read_bytes()
    for size in (7, 100, len(data) // 2, len(data) - 1):
        file.write_bytes(data[:size])
        assert ("not a weights file" if size < 8 else "truncated") in refusal(file)


@pytest.mark.parametrize("name", ["medians", "z_step_index", "z_tables/low", "y_tables/freq"])
def test_a_missing_array_is_refused(file, name):
    tensors, header = contents(file)
    del tensors[name]
    write(file, tensors, header)
    assert "damaged" in refusal(file)


@pytest.mark.parametrize(
    "config", [None, {}, {"n": 3}, {"architecture": "vgg"}, {"N": "6"}, {"latent_scale": "big"}]
)
def test_a_bad_description_is_refused(file, config):
    tensors, header = contents(file)
    write(file, tensors, header | {"config": config})
    assert "damaged" in refusal(file)


def test_any_damaged_byte_is_refused_or_changes_no_number(tiny, file):
    """Bytes of the JSON that describe nothing numeric (a licence, say) are free."""
    data = file.read_bytes()
    rng = np.random.default_rng(0)
    head = 8 + int.from_bytes(data[:8], "little")
    for at in (*range(8), *rng.integers(8, head, 60), *rng.integers(head, len(data), 20)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << int(rng.integers(8))
        file.write_bytes(damaged)
        again = None
        with contextlib.suppress(ValueError):
            again = read_model(file)
        if again is not None:
            assert at < head
            assert (again.model_id, again.config) == (tiny.model_id, tiny.config)


def test_a_missing_file_is_no_damaged_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_model(tmp_path / "nothing.safetensors")


def test_a_file_appears_whole_or_not_at_all(tiny, file, monkeypatch):
    before = file.read_bytes()

    def crash(*_):
        raise OSError("power cut")

    monkeypatch.setattr("os.replace", crash)
    with pytest.raises(OSError, match="power cut"):
        save_model(replace(tiny, medians=tiny.medians + 1), file)
    assert [p.name for p in file.parent.iterdir()] == [file.name]
    assert file.read_bytes() == before


def test_a_model_is_a_pytree_of_its_arrays(tiny):
    doubled = jax.tree.map(lambda a: 2 * a, tiny)
    assert isinstance(doubled, FrozenModel)
    assert (doubled.config, doubled.model_id, doubled.header) == (
        tiny.config,
        tiny.model_id,
        tiny.header,
    )
    np.testing.assert_array_equal(doubled.offsets, 2 * tiny.offsets)
    np.testing.assert_array_equal(doubled.y_tables.low, 2 * tiny.y_tables.low)
    kernel = tiny.params["h_a"]["conv0"]["kernel"]
    np.testing.assert_array_equal(doubled.params["h_a"]["conv0"]["kernel"], 2 * kernel)


def test_a_model_enters_and_leaves_jitted_functions(tiny):
    back = jax.jit(lambda model: jax.tree.map(lambda a: a + 0, model))(tiny)
    assert back.config == tiny.config
    for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(tiny), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype


def test_a_model_on_a_device_codes_as_the_one_on_the_host(tiny):
    moved = jax.device_put(tiny)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(moved))
    data = jvrc.compress(tiny, IMAGE, 4.0)
    assert jvrc.compress(moved, IMAGE, 4.0) == data
    np.testing.assert_array_equal(jvrc.decompress(moved, data), jvrc.decompress(tiny, data))
