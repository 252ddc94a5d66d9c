"""The format page suffices: a decoder written from it alone reads the golden streams."""

import dataclasses
import importlib.util
import json
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import profiles
import pytest
from PIL import Image
from small import spread_2026

import jvrc
from jvrc.codec.alpha import with_alpha
from jvrc.codec.image.decoder import decode_symbols
from jvrc.codec.image.encoder import encode_image
from jvrc.coding.container import Section
from jvrc.coding.packing import pack, unpack
from jvrc.export.format_fitting import Sample, fit_format
from jvrc.frozen.file import as_stored, read_model, save_model
from jvrc.qstep import qstep_code_of

TESTS = Path(__file__).parents[1]
GOLDEN = TESTS / "golden"
EXIF = b"II*\0\x08\0\0\0\0\0\0\0\0\0"
WEIGHTS = TESTS.parent / "jvrc" / "weights"
STREAMS = {
    f"{version}/{name}": entry
    for version in ("v1", "v2", "v3")
    for name, entry in json.loads((GOLDEN / version / "golden.json").read_text()).items()
}
# Of the streams of shipped models, an image of the smallest alone: the others take seconds.
IMAGES = [n for n, e in STREAMS.items() if "tiny-" in e["weights"] or n.endswith("photo-1")]


def load_reference():
    path = TESTS / "reference_decoder.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference = load_reference()


@cache
def load_weights(name):
    """Of a stream's model."""
    weights = STREAMS[name]["weights"]
    folder = (GOLDEN / name).parent if weights.endswith(".safetensors") else WEIGHTS
    return reference.load((folder / weights).with_suffix(".safetensors"))


def read_golden(name):
    return (GOLDEN / f"{name}.jvrc").read_bytes()


def with_checksum(body):
    return body + zlib.crc32(body).to_bytes(4, "little")


@pytest.mark.parametrize("name", STREAMS)
def test_symbols_have_the_stored_hashes(name):
    symbols = reference.decode_symbols(*load_weights(name), read_golden(name))
    for field in ("z", "y", "index"):
        assert reference.digest(getattr(symbols, field)) == STREAMS[name][field], field


@pytest.mark.parametrize("name", IMAGES)
def test_image_differs_by_at_most_one(name):
    pixels = reference.image(*load_weights(name), read_golden(name))
    with Image.open(GOLDEN / f"{name}.png") as opened:
        stored = np.asarray(opened.convert("L" if pixels.ndim == 2 else "RGB"))
        alpha = np.asarray(opened.getchannel("A")) if opened.has_transparency_data else None
    assert pixels.shape == stored.shape
    assert np.abs(pixels.astype(int) - stored).max() <= 1
    np.testing.assert_array_equal(reference.alpha(read_golden(name)), alpha)


@pytest.mark.parametrize("name", [name for name, entry in STREAMS.items() if "metadata" in entry])
def test_profile_and_metadata_are_those_stored(name):
    found = reference.metadata(read_golden(name))
    assert [part.hex() for part in found] == STREAMS[name]["metadata"]


def test_command_prints_hashes_and_writes_the_image(tmp_path, capsys):
    name, out = "v1/tiny-mean-b", tmp_path / "out.png"
    weights = GOLDEN / "v1" / STREAMS[name]["weights"]
    reference.main([str(weights), str(GOLDEN / f"{name}.jvrc"), "-o", str(out)])
    lines = [f"{field} {STREAMS[name][field]}\n" for field in ("z", "y", "index")]
    assert capsys.readouterr().out == "".join(lines)
    with Image.open(out) as opened:
        pixels = reference.image(*load_weights(name), read_golden(name))
        np.testing.assert_array_equal(np.asarray(opened), pixels)


# What jvrc codes anew, and not only what it coded once.


def agree_on(model, path, img, qstep, tile_side=16):
    """What the reference decodes of an image, which is what jvrc decodes of it."""
    data = pack(encode_image(model, img, qstep_code_of(qstep), tile_side=tile_side))
    found = reference.decode_symbols(*reference.load(path), data)
    z_q, symbols = decode_symbols(model, data)
    for name, expected in (symbols._asdict() | {"z": z_q}).items():
        np.testing.assert_array_equal(getattr(found, name), expected, name)
    return data, found


@pytest.mark.parametrize("name", jvrc.models())
def test_crops_of_a_photo_decode_alike_with_shipped_models(name, photo):
    agree_on(jvrc.load(name), jvrc.models()[name], photo[200:296, 300:428], 2.0)


def noise(height, width):
    rng = np.random.default_rng((height, width))
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def context(tiny_context, tmp_path_factory):
    """(the tiny model with a context, its file)."""
    path = tmp_path_factory.mktemp("context") / "model.safetensors"
    return save_model(tiny_context, path), path


@pytest.mark.parametrize(("height", "width"), [(1, 1), (130, 67)])
@pytest.mark.parametrize("qstep", [0.5, 1.37, 32.0])
def test_images_decode_alike_with_a_tiny_context(context, height, width, qstep):
    agree_on(*context, noise(height, width), qstep)


@pytest.mark.parametrize("side", [1, 2])
def test_images_of_several_tiles_decode_alike(tiny, side, tmp_path):
    """Integers, pixels, and the sections that a decoder may skip."""
    path = tmp_path / "model.safetensors"
    model, img = save_model(tiny, path), noise(200, 129)
    data, _ = agree_on(model, path, img, 1.0, side)
    assert len(reference.read_stream(data).tiles) > 3
    pixels = reference.image(*reference.load(path), data)
    assert np.abs(pixels.astype(int) - jvrc.decompress(model, data)).max() <= 1
    sections = (Section(200, b"anything"), Section(129, b""))
    more = pack(unpack(data)._replace(sections=sections))
    assert reference.read_stream(more).others == sections
    assert reference.read_stream(more).tiles == reference.read_stream(data).tiles


MODELS_2026 = {
    "as shipped": {},
    "fold, larger z, last kernel of 3x3": {"h_s_kernel": 3, "fold": 2, "z_scale": 30.0},
    "more blocks, fold 3": {"fold": 3, "expansion": 3, "context_blocks": 2, "g_s_blocks": 1},
}


@pytest.fixture(scope="module", params=MODELS_2026.values(), ids=MODELS_2026)
def model_2026(request, tmp_path_factory):
    """(a jvrc2026 of random weights, its file)."""
    path = tmp_path_factory.mktemp("2026") / "model.safetensors"
    model = spread_2026(path, **request.param)
    assert model.fixed_point_format.z_exponent == (0 if "z_scale" in request.param else -4)
    return model, path


def test_jvrc2026_decodes_alike(model_2026):
    """Integers and pixels, of one tile and of several, at Delta within its range and beyond."""
    model, path = model_2026
    weights, config = reference.load(path)
    for height, width, qstep, side in ((130, 67, 1.37, 1), (1, 65, 32.0, 16)):
        data, symbols = agree_on(model, path, noise(height, width), qstep, side)
        assert len(set(symbols.index.ravel())) > 20
        assert all(np.std(values) > 0.1 for values in (symbols.z, symbols.mu))
        pixels = reference.image(weights, config, data)
        assert np.abs(pixels.astype(int) - jvrc.decompress(model, data)).max() <= 1
        assert np.mean((pixels == 0) | (pixels == 255)) < 0.05  # few that are clipped


def test_pictures_decode_alike(model_2026):
    """Grey, alpha, profile and metadata, of one tile and of several."""
    model, path = model_2026
    weights, config = reference.load(path)
    img, alpha = noise(70, 130), noise(70, 130)[..., 0]
    for pixels, extra in ((img[..., 0], alpha), (img, alpha), (img[:9, :9], alpha[:9, :9] | 255)):
        icc = profiles.srgb() if extra.shape[0] > 9 else b""
        data = jvrc.compress(model, jvrc.Picture(pixels, extra, icc, EXIF, b"<xmp/>"), 1.37)
        found = reference.image(weights, config, data)
        assert found.shape == pixels.shape
        restored = jvrc.decompress_picture(model, data)
        assert np.abs(found.astype(int) - restored.pixels).max() <= 1
        np.testing.assert_array_equal(reference.alpha(data), extra)
        assert reference.metadata(data) == (icc, EXIF, b"<xmp/>")
    coded = with_alpha(encode_image(model, noise(70, 130), 640, tile_side=1), alpha)
    np.testing.assert_array_equal(reference.alpha(pack(coded)), alpha)


@pytest.mark.parametrize(
    "part",
    [
        *("delta/bias", "context/in2/kernel", "context/film3/kernel", "context/out1/bias"),
        *("context/block0/depthwise/kernel", "g_s/film/kernel", "g_s/block0/film0/kernel"),
        *("g_s/block0/film1/kernel", "g_s/block0/out/kernel", "g_s/block0/back/kernel"),
    ],
)
def test_pixels_of_jvrc2026_show_every_part(part):
    """So that the agreement above says something about it."""
    weights, config = load_weights("v2/steps")
    name, data = f"params/{part}", read_golden("v2/steps")
    decoded = reference.read_stream(data), reference.decode_symbols(weights, config, data)
    pixels, without = (
        reference.image_of(found, config, *decoded).astype(int)
        for found in (weights, weights | {name: np.zeros_like(weights[name])})
    )
    assert np.mean(np.abs(without - pixels) > 1) > 0.02


@pytest.fixture(scope="module", params=[True, False], ids=["log scale", "scale"])
def spread(request, tiny_context, tmp_path_factory):
    """(model, its file): random weights of mbt2018 in which everything spreads and saturates.

    Its fixed-point format fits activations that are far smaller than those there will be.
    """
    rng = np.random.default_rng(0)
    config = dataclasses.replace(tiny_context.config, log_scale=request.param)
    m, params = config.M, {k: dict(v) for k, v in tiny_context.params.items()}

    def scaled(part, layer, kernel, bias=0.0):
        old = params[part][layer]
        params[part][layer] = {"kernel": old["kernel"] * kernel, "bias": old["bias"] + bias}

    scaled("g_a", "conv3", 40.0)
    scaled("h_a", "conv2", 40.0)
    scaled("h_s", "conv2", 4.0)
    scaled("context", "conv", 8.0)
    params["context"]["step"]["kernel"] = rng.normal(0, 1, (1, 2 * m))
    columns = np.append(np.ones(2 * m - 3), [100.0, 4000.0, 4000.0])  # large means
    low, high = (-3, 6) if config.log_scale else (-9, 30)
    bias = np.append(rng.uniform(low, high, m), np.zeros(m))
    scaled("entropy_parameters", "conv2", columns, bias)
    params = as_stored(params)
    z_hat, y = rng.integers(-40, 41, (4, 4, config.N)), rng.normal(0, 9, (16, 16, m))
    y = y.astype(np.float32)
    found = fit_format(config, params, [Sample(z_hat, y, 1.0)], (1.0, 16.0))
    last = found.layers["entropy_parameters/conv2"]
    coarser = last.exponent + np.append(np.zeros(2 * m - 3), [1, 0, 5]).astype(np.int8)
    layers = found.layers | {"entropy_parameters/conv2": last._replace(exponent=coarser)}
    found = found._replace(layers=layers)
    changed = dataclasses.replace(
        tiny_context, config=config, params=params, fixed_point_format=found
    )
    path = tmp_path_factory.mktemp("spread") / "model.safetensors"
    return save_model(changed, path), path


def test_a_context_whose_values_spread_and_saturate_decodes_alike(spread, monkeypatch):
    """Also at the ends of the steps, with escapes, means in many units and values at all limits."""
    model, path = spread
    recorded = {"features": [], "reconstruct": [], "see": []}
    for name, found in recorded.items():
        original = getattr(reference.Context, name)

        def recording(self, *args, original=original, found=found):
            found.append((*args, original(self, *args)))
            return found[-1][-1]

        monkeypatch.setattr(reference.Context, name, recording)
    index, escapes = [], []
    for qstep in (0.5, 1.37, 32.0):
        data, symbols = agree_on(model, path, noise(130, 67), qstep)
        index += symbols.index.ravel().tolist()
        (tile,) = reference.read_stream(data).tiles
        escapes += tile.y.escapes
    assert len(set(index)) > 60
    assert 0.1 < len(escapes) / len(index) < 0.9
    up = model.network.mu_exponent + 6
    assert set(up) == {0, 1, 5}
    q, mu = (np.array([found[i] for found in recorded["reconstruct"]]) for i in (0, 1))
    assert np.any(np.abs(mu[:, up == 0]) > 2**20)
    assert np.any(np.abs(mu[:, up == 5]) > 2**15)
    assert np.any(np.abs(q) > 4096)  # |y^ - mu| at its limit, at steps of 1/2 and more
    for name in ("features", "see"):
        saturated = [np.abs(found[-1]) == 1023 for found in recorded[name]]
        assert 0.05 < np.mean(saturated) < 0.95, name


def test_damage_is_found_in_streams_with_a_context(context, monkeypatch):
    model, path = context
    weights, config = reference.load(path)
    data = jvrc.compress(model, noise(64, 64), 2.0, patches=False)
    whole = reference.read_stream(data)
    (tile,) = whole.tiles
    reference.decode_symbols(weights, config, data)
    for change in (
        {"escapes": (*tile.y.escapes, 0)},
        {"words": tile.y.words[:-2]},
        {"words": tile.y.words + b"\0\0"},
        {"words": b"\0\0\0\0" + tile.y.words[4:]},
    ):
        damaged = whole._replace(tiles=(tile._replace(y=tile.y._replace(**change)),))
        monkeypatch.setattr(reference, "read_stream", lambda _, damaged=damaged: damaged)
        with pytest.raises(ValueError, match="damaged"):
            reference.decode_symbols(weights, config, data)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("params/context/conv/kernel", lambda a: 2 * a, "integer weight"),
        ("params/entropy_parameters/conv0/kernel", lambda a: 2 * a, "integer weight"),
        ("params/entropy_parameters/conv1/kernel", lambda a: 2 * a, "integer weight"),
        ("params/entropy_parameters/conv2/kernel", lambda a: 2 * a, "integer weight"),
        ("params/entropy_parameters/conv0/bias", lambda a: a + 1e9, "bias"),
        ("units/bias/0", lambda a: np.full_like(a, -(2**31)), "bias"),
        ("units/shifts/4", lambda a: -a, "negative"),
        ("units/latent/0", lambda a: a + 20, "latents"),
        ("units/exponents/6", lambda a: a - 1, "finer"),
    ],
)
def test_weights_with_a_context_that_break_a_rule_are_rejected(context, name, change, message):
    weights, config = reference.load(context[1])
    reference.Context(weights, config, 0)
    changed = change(weights[name]).astype(weights[name].dtype)
    with pytest.raises(ValueError, match=message):
        reference.Context(weights | {name: changed}, config, 0)


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
    data = read_golden("v1/tiny-mean-a")
    assert_damage_is_found(data)


def test_damaged_files_of_several_tiles_are_rejected(context):
    coded = encode_image(context[0], noise(64, 129), 640, tile_side=1)
    assert_damage_is_found(pack(coded._replace(sections=(Section(130, b"exif"),))))


def assert_damage_is_found(data):
    reference.read_stream(data)
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
        pytest.param(slice(11, 13), b"\x84\x14", id="step code 641"),
        pytest.param(slice(11, 13), b"\x82\x04", id="step code -129"),
        pytest.param(slice(13, 14), b"\x0d", id="8192 lanes"),
        pytest.param(slice(14, 15), b"\x0a", id="longer words than there are"),
        pytest.param(slice(14, 15), b"\x02", id="a gap"),
    ],
)
def test_broken_rules_are_rejected(field, value):
    body = bytearray(read_golden("v1/tiny-mean-a")[:-4])
    assert reference.read_stream(with_checksum(bytes(body))).code == 128
    body[field] = value
    with pytest.raises(ValueError, match="damaged"):
        reference.read_stream(with_checksum(bytes(body)))


def section(kind, payload, header):
    body = bytes([kind, len(payload)]) + payload
    return body + zlib.crc32(header + body).to_bytes(4, "little")


def test_rules_of_version_2_are_checked():
    header = bytes.fromhex("4a565243 02 01234567 41 01 00 03 01")  # 65 x 1 pixels, tiles of 64 x 1
    first, second = (bytes([n]) + bytes.fromhex("00 00 00 00 00") for n in (0, 1))

    def file(*sections, header=header):
        return header + b"".join(section(*found, header) for found in sections)

    good = [(2, first), (2, second)]
    index = 1, bytes([12, 12])
    assert len(reference.read_stream(file(index, *good)).tiles) == 2
    assert reference.read_stream(file((200, b"x"), index, *good)).others == ((200, b"x"),)
    for sections, message in (
        (good, "too few"),
        ([index], "too few"),
        ([index, good[0]], "too few"),
        ([index, *good, (2, second)], "too many"),
        ([index, *good, (200, b"")], "another order"),
        ([index, good[1], good[0]], "in the place of another"),
        ([(1, bytes([12, 11])), *good], "another size"),
        ([(1, bytes([12, 12, 0])), *good], "too long"),
        ([(2, index[1]), *good], "no index"),
        ([index, good[0], (4, second)], "unknown type"),
        ([index, good[0], (2, b"")], "size|end"),
        ([index, good[0], (2, b"\1\x20" + second[2:])], "unknown flags"),
        ([index, good[0], (2, b"\1\x0d" + second[2:])], "too many lanes"),
        ([index, good[0], (2, second[:4] + b"\x0d\0")], "too many lanes"),
        ([index, good[0], (2, second[:2] + b"\1" + second[3:])], "exceed"),
    ):
        with pytest.raises(ValueError, match=message):
            reference.read_stream(file(*sections))
    for at, value, message in ((9, 0, "no pixels"), (12, 2, "channels"), (13, 17, "no such")):
        other = header[:at] + bytes([value]) + header[at + 1 :]
        with pytest.raises(ValueError, match=message):
            reference.read_stream(file(index, *good, header=other))


def test_damaged_bytes_of_jvrc2026_mean_the_same_to_both_decoders():
    """Under valid checksums: an error of both, or the same integers."""
    weights, config = load_weights("v2/steps")
    model = read_model(GOLDEN / "v2" / "tiny-2026.safetensors")
    data = jvrc.compress(model, noise(1, 1), 1.37, patches=False)
    at = 14  # the section of the one tile: behind the header, its type and its length
    assert data[9:14] == bytes.fromhex("01 01 74 03 10")
    outcomes = set()
    for i in range(at, len(data) - 4):
        damaged = with_checksum(data[:i] + bytes([data[i] ^ 1 << i % 8]) + data[i + 1 : -4])
        try:
            z_q, symbols = decode_symbols(model, damaged)
        except jvrc.BitstreamError:
            with pytest.raises(ValueError):
                reference.decode_symbols(weights, config, damaged)
            outcomes.add("error")
            continue
        found = reference.decode_symbols(weights, config, damaged)
        for name, expected in (symbols._asdict() | {"z": z_q}).items():
            np.testing.assert_array_equal(getattr(found, name), expected, name)
        outcomes.add("integers")
    assert outcomes == {"error", "integers"}


def test_weights_of_another_model_are_rejected():
    with pytest.raises(ValueError, match="another model"):
        reference.decode_symbols(*load_weights("v1/tiny-scale-a"), read_golden("v1/tiny-mean-a"))


def test_weights_with_inexact_sums_are_rejected():
    weights, config = load_weights("v1/tiny-mean-a")
    name = "params/h_s/conv2/kernel"
    weights = weights | {name: 2 * weights[name]}
    with pytest.raises(ValueError, match="exceed"):
        reference.hyper_synthesis(weights, config, np.zeros((1, 1, config["N"]), np.int64))
