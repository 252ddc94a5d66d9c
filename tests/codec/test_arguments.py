"""Claims about what the public functions refuse, before any work, and what their errors say."""

from io import BytesIO

import jax
import numpy as np
import pytest
from PIL import Image

import jvrc
from jvrc.codec.image.decoder import decode_symbols


@pytest.fixture(scope="module")
def img():
    y, x = np.mgrid[:33, :41]
    return np.stack([3 * x, 2 * y + x, 90 + x], axis=-1).astype(np.uint8)


@pytest.fixture(scope="module")
def stream(tiny_2026, img):
    return jvrc.compress(tiny_2026, img, 2.0)


def test_a_models_name_is_no_model(img, stream):
    for function, data in ((jvrc.compress, img), (jvrc.decompress, stream)):
        with pytest.raises(ValueError, match=r"pass jvrc.load\('mbt2018-mean'\)"):
            function("mbt2018-mean", data, *([2.0] if function is jvrc.compress else []))


def test_parameters_in_training_are_to_be_frozen_first(tiny_2026, img):
    with pytest.raises(ValueError, match="params must be a frozen model.* got dict: freeze"):
        jvrc.compress(tiny_2026.params, img, 2.0)
    with pytest.raises(ValueError, match="params must be a frozen model.* got NoneType$"):
        jvrc.compress(None, img, 2.0)


def test_a_path_is_no_data(tiny_2026):
    for read in (lambda data: jvrc.decompress(tiny_2026, data), jvrc.inspect):
        with pytest.raises(ValueError, match=r"pass pathlib.Path\('x.jvrc'\).read_bytes\(\)"):
            read("x.jvrc")
        with pytest.raises(ValueError, match=r"data must be bytes.* got numpy.ndarray$"):
            read(np.zeros(9, np.uint8))


@pytest.mark.parametrize("name", ["metadata", "patches", "masking", "progress"])
def test_what_is_true_or_false_is_nothing_else(tiny_2026, img, name):
    for wrong in ("no", 1, None):
        with pytest.raises(ValueError, match=f"{name} must be True or False; got {wrong!r}"):
            jvrc.compress(tiny_2026, img, 2.0, effort=1, **{name: wrong})


def test_a_warning_points_at_the_call(tiny_2026, img):
    frames = [Image.fromarray(img), Image.fromarray(255 - img)]
    file = BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    with pytest.warns(UserWarning, match="img: ") as found:
        jvrc.compress(tiny_2026, Image.open(file), 2.0)
    assert {warning.filename for warning in found} == {__file__}


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_data_may_be_anything_that_holds_bytes(tiny_2026, stream, kind):
    expected = jvrc.decompress(tiny_2026, stream)
    np.testing.assert_array_equal(jvrc.decompress(tiny_2026, kind(stream)), expected)
    assert jvrc.inspect(kind(stream)) == jvrc.inspect(stream)


def restored(model, img, effort=0):
    return jvrc.decompress(model, jvrc.compress(model, img, 2.0, effort=effort))


@pytest.mark.parametrize("option", ["disable_jit", "debug_nans", "enable_x64"])
def test_options_of_jax_for_other_code_change_nothing(tiny_2026, img, option):
    expected = restored(tiny_2026, img)
    with getattr(jax, option)(True):
        np.testing.assert_array_equal(restored(tiny_2026, img), expected)


def test_symbols_are_decoded_in_32_bits(tiny, img):
    data = jvrc.compress(tiny, img, 2.0)
    expected = decode_symbols(tiny, data)
    with jax.enable_x64(True):
        found = decode_symbols(tiny, data)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_guard_of_transfers_is_for_other_code(tiny, img):
    expected = restored(tiny, img, effort=1)
    with jax.transfer_guard("disallow"):
        np.testing.assert_array_equal(restored(tiny, img, effort=1), expected)
