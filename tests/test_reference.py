"""The format page suffices: a decoder written from it alone reads the golden streams."""

import importlib.util
import json
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TESTS = Path(__file__).parent
GOLDEN = TESTS / "golden" / "v1"
WEIGHTS = TESTS.parent / "jvrc" / "weights"
STREAMS = json.loads((GOLDEN / "golden.json").read_text())
# Of the shipped model's streams, a picture of the smallest alone: the others take seconds.
PICTURES = [name for name in STREAMS if name.startswith("tiny-") or name.endswith("photo-1")]


def load_reference():
    path = TESTS / "reference_decoder.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference = load_reference()


@cache
def load_weights(name):
    folder = GOLDEN if name.endswith(".safetensors") else WEIGHTS
    return reference.load((folder / name).with_suffix(".safetensors"))


def read_golden(name):
    return (GOLDEN / f"{name}.jvrc").read_bytes()


def with_checksum(body):
    return body + zlib.crc32(body).to_bytes(4, "little")


@pytest.mark.parametrize("name", STREAMS)
def test_symbols_have_the_stored_hashes(name):
    symbols = reference.decode_symbols(*load_weights(STREAMS[name]["weights"]), read_golden(name))
    for field in ("z", "y", "index"):
        assert reference.digest(getattr(symbols, field)) == STREAMS[name][field], field


@pytest.mark.parametrize("name", PICTURES)
def test_picture_differs_by_at_most_one(name):
    pixels = reference.picture(*load_weights(STREAMS[name]["weights"]), read_golden(name))
    with Image.open(GOLDEN / f"{name}.png") as image:
        stored = np.asarray(image.convert("RGB"))
    assert pixels.shape == stored.shape
    assert np.abs(pixels.astype(int) - stored).max() <= 1


def test_command_prints_hashes_and_writes_the_picture(tmp_path, capsys):
    name, out = "tiny-mean-b", tmp_path / "out.png"
    weights = GOLDEN / STREAMS[name]["weights"]
    reference.main([str(weights), str(GOLDEN / f"{name}.jvrc"), "-o", str(out)])
    lines = [f"{field} {STREAMS[name][field]}\n" for field in ("z", "y", "index")]
    assert capsys.readouterr().out == "".join(lines)
    with Image.open(out) as image:
        pixels = reference.picture(*load_weights(STREAMS[name]["weights"]), read_golden(name))
        np.testing.assert_array_equal(np.asarray(image), pixels)


# An encoder written from section 2 shows any number of lanes.


def encode_range(symbols, tables, index, lanes):
    states = [2**16] * min(lanes, len(symbols))
    emitted = []
    for i in reversed(range(len(symbols))):
        table, s = tables[index[i]], symbols[i]
        f, c, x = int(table[s]), int(table[:s].sum()), states[i % lanes]
        if x >= f * 2**16:
            emitted.append(x % 2**16)
            x //= 2**16
        states[i % lanes] = x // f * 2**16 + x % f + c
    words = np.array(emitted[::-1], "<u2")
    return np.array(states, "<u4").tobytes() + words.tobytes()


@pytest.fixture
def material():
    rng = np.random.default_rng(0)
    tables = [np.array(f) for f in ([1, 65535], [65534, 1, 1], [30000, 5536, 30000], [4096] * 16)]
    index = rng.integers(len(tables), size=500)
    symbols = np.array([rng.integers(len(tables[t])) for t in index])
    return symbols, tables, index


@pytest.mark.parametrize("lanes", [1, 2, 64, 512, 4096])
@pytest.mark.parametrize("count", [0, 1, 500])
def test_range_coder_of_any_number_of_lanes(material, lanes, count):
    symbols, tables, index = material
    symbols, index = symbols[:count], index[:count]
    words = encode_range(symbols, tables, index, lanes)
    assert bool(words) == bool(count)
    decoded = reference.decode_range(words, tables, index, lanes)
    np.testing.assert_array_equal(decoded, symbols)


def test_range_coder_finds_damage(material):
    symbols, tables, index = material
    words = encode_range(symbols, tables, index, 4)
    low_state = b"\0\0\0\0" + words[4:]
    for damaged in (b"", words[:-1], words[:-2], words + b"\0\0", low_state):
        with pytest.raises(ValueError, match="damaged"):
            reference.decode_range(damaged, tables, index, 4)
        decoded = reference.decode_range(damaged, tables, index, 4, check=False)
        assert decoded.shape == index.shape


def test_changed_words_are_found_or_are_other_symbols(material):
    # The range coder is no checksum: what passes its tests is the one encoding of what it decodes.
    symbols, tables, index = material
    symbols, index = symbols[:60], index[:60]
    words = encode_range(symbols, tables, index, 4)
    passed = 0
    for bit in range(8 * len(words)):
        damaged = bytearray(words)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            decoded = reference.decode_range(bytes(damaged), tables, index, 4)
        except ValueError:
            continue
        passed += 1
        assert np.any(decoded != symbols)
        assert encode_range(decoded, tables, index, 4) == damaged
    assert 0 < passed < 8 * len(words) / 2


def test_damaged_files_are_rejected():
    data = read_golden("tiny-mean-a")
    for i in range(len(data)):
        for damaged in (data[:i], data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :]):
            with pytest.raises(ValueError, match=r"damaged|jvrc"):
                reference.read_stream(damaged)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param(slice(9, 10), b"\0", id="no rows"),
        pytest.param(slice(9, 10), b"\x81\0", id="superfluous group"),
        pytest.param(slice(9, 10), b"\xff\xff\xff\xff\x10", id="33 bits"),
        pytest.param(slice(9, 10), b"\xff\xff\xff\xff\x80\0", id="six bytes"),
        pytest.param(slice(11, 13), b"\x82\x0a", id="step code 641"),
        pytest.param(slice(11, 13), b"\x81\x02", id="step code -129"),
        pytest.param(slice(13, 14), b"\x0d", id="8192 lanes"),
        pytest.param(slice(14, 15), b"\x0a", id="longer words than there are"),
        pytest.param(slice(14, 15), b"\x02", id="a gap"),
    ],
)
def test_broken_rules_are_rejected(field, value):
    body = bytearray(read_golden("tiny-mean-a")[:-4])
    assert reference.read_stream(with_checksum(bytes(body))).code == 128
    body[field] = value
    with pytest.raises(ValueError, match="damaged"):
        reference.read_stream(with_checksum(bytes(body)))


def test_weights_of_another_model_are_rejected():
    with pytest.raises(ValueError, match="another model"):
        reference.decode_symbols(
            *load_weights("tiny-scale.safetensors"), read_golden("tiny-mean-a")
        )


def test_weights_with_inexact_sums_are_rejected():
    weights, config = load_weights("tiny-mean.safetensors")
    name = "params/h_s/conv2/kernel"
    weights = weights | {name: 2 * weights[name]}
    with pytest.raises(ValueError, match="exceed"):
        reference.hyper_synthesis(weights, config, np.zeros((1, 1, config["N"]), np.int64))
