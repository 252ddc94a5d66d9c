"""Claims about files with refined scales: same images, fewer bytes, nothing misread."""

from dataclasses import replace

import numpy as np
import pytest
from small import always_refined, random_refinement, refined_2026

import jvrc
from jvrc.codec.image.decoder import decode_symbols
from jvrc.codec.image.encoder import encode_image
from jvrc.coding.packing import pack, unpack
from jvrc.frozen.file import read_model, save_model, seal
from jvrc.qstep import qstep_code_of


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return refined_2026(tmp_path_factory.mktemp("refined") / "model.safetensors", z_scale=3.0)


@pytest.fixture(scope="module")
def shipped():
    return jvrc.load("jvrc2026")


def coded(model, img, qstep, **options):
    with always_refined():
        return encode_image(model, img, qstep_code_of(qstep), **options)


def noise(height, width):
    rng = np.random.default_rng((height, width))
    return rng.integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (100, 330), (700, 90)])
@pytest.mark.parametrize("qstep", [0.5, 5.0])
def test_symbols_are_those_of_a_file_that_is_not_refined(model, size, qstep):
    img = noise(*size)
    plain = replace(model, refinement=None)
    data, other = pack(coded(model, img, qstep)), jvrc.compress(plain, img, qstep, patches=False)
    assert (unpack(data).version, unpack(other).version) == (3, 2)
    for a, b in zip(decode_symbols(model, data), decode_symbols(plain, other), strict=True):
        assert np.array_equal(a, b) if isinstance(a, np.ndarray) else all(map(np.array_equal, a, b))
    np.testing.assert_array_equal(jvrc.decompress(model, data), jvrc.decompress(model, other))


def test_tiles_decode_alone(model):
    img = noise(200, 260)
    data = pack(coded(model, img, 3.0, tile_side=2))
    whole = jvrc.decompress(model, data)
    part = jvrc.decompress(model, data, crop=(140, 130, 60, 50))
    assert np.abs(whole[130:180, 140:200].astype(int) - part).max() <= 1


@pytest.mark.parametrize(("contrast", "version"), [(1.0, 3), (0.02, 2)])
def test_a_file_is_refined_only_where_that_takes_fewer_bytes(model, contrast, version):
    img = np.rint(128 + contrast * (noise(200, 260) - 128.0)).astype(np.uint8)
    plain = jvrc.compress(replace(model, refinement=None), img, 2.0, patches=False)
    refined = pack(coded(model, img, 2.0))
    assert (len(refined) < len(plain)) == (version == 3)
    chosen = jvrc.compress(model, img, 2.0, patches=False)
    assert unpack(chosen).version == version
    assert chosen == (refined if version == 3 else plain)


@pytest.mark.parametrize(("qstep", "share"), [(1.0, 0.98), (4.0, 0.99), (12.0, 1.0)])
def test_the_shipped_refinement_saves_bits(shipped, photo, qstep, share):
    plain = replace(shipped, refinement=None)
    data, other = (jvrc.compress(m, photo, qstep) for m in (shipped, plain))
    assert (unpack(data).version, unpack(other).version) == (3, 2)
    assert len(data) < share * len(other)
    np.testing.assert_array_equal(jvrc.decompress(shipped, data), jvrc.decompress(shipped, other))


def test_damage_never_goes_unnoticed(model):
    """Whatever is changed in the words, the decoder finds it or decodes some other symbols."""
    img, rng = noise(64, 128), np.random.default_rng(0)
    container = coded(model, img, 1.0)
    (tile,) = container.tiles
    failed = 0
    for _ in range(40):
        words = bytearray(tile.y.words)
        words[rng.integers(len(words))] ^= 1 << rng.integers(8)
        broken = tile._replace(y=tile.y._replace(words=bytes(words)))
        try:
            jvrc.decompress(model, pack(container._replace(tiles=(broken,))))
        except jvrc.BitstreamError:
            failed += 1
    assert failed >= 38


@pytest.mark.parametrize("escapes", [b"", b"\0\0"])
def test_escape_values_too_few_or_too_many_are_damage(model, escapes):
    container = coded(model, noise(64, 64), 0.5)
    (tile,) = container.tiles
    assert tile.y.escapes
    more = tile.y.escapes + escapes if escapes else b""
    broken = tile._replace(y=tile.y._replace(escapes=more))
    with pytest.raises(jvrc.BitstreamError):
        jvrc.decompress(model, pack(container._replace(tiles=(broken,))))


def test_another_refinement_is_refused_by_its_id(model, tmp_path):
    data = pack(coded(model, noise(64, 64), 2.0))
    other = model.refinement._replace(by_index=model.refinement.by_index + np.int16(1))
    other = save_model(replace(model, refinement=other), tmp_path / "other.safetensors")
    assert other.model_id == model.model_id
    assert other.refinement_id != model.refinement_id
    with pytest.raises(jvrc.BitstreamError, match=f"{model.refinement_id}.*{other.refinement_id}"):
        jvrc.decompress(other, data)
    with pytest.raises(jvrc.BitstreamError, match="the model has none"):
        jvrc.decompress(seal(replace(model, refinement=None)), data)


def test_weights_without_it_have_the_same_id_and_read_what_is_not_refined(model, tmp_path):
    plain = save_model(replace(model, refinement=None), tmp_path / "plain.safetensors")
    assert (plain.model_id, plain.refinement_id) == (model.model_id, None)
    data = jvrc.compress(plain, noise(64, 64), 2.0)
    np.testing.assert_array_equal(jvrc.decompress(plain, data), jvrc.decompress(model, data))


def test_a_weights_file_with_damaged_integers_is_refused(model, tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(model, path)
    data = path.read_bytes()
    field = np.ascontiguousarray(model.refinement.around).tobytes()
    assert data.count(field) == 1
    path.write_bytes(data.replace(field, bytes([field[0] ^ 1]) + field[1:]))
    with pytest.raises(ValueError, match="arrays give the refinement"):
        read_model(path)


def test_a_refinement_of_other_channels_is_refused(model, tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(replace(model, refinement=None), path)
    wrong = replace(read_model(path), refinement=random_refinement(8))
    with pytest.raises(ValueError, match="refinement/hidden_kernel"):
        save_model(wrong, path)
