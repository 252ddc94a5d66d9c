"""Claims about coding in wavefronts, on tiny models with random weights."""

from functools import partial

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jvrc
from jvrc.codec.image.encoder import quantise_image
from jvrc.codec.latent_coders import wavefront_loop, wavefront_order
from jvrc.codec.latent_coders.by_architecture import coder_of
from jvrc.codec.latent_coders.wavefront import WavefrontCoder
from jvrc.codec.tiles.streams import decode_z
from jvrc.codec.tiles.tile_coder import decode_tile, encode_tile
from jvrc.codec.transforms.latents import analyse, quantise_z
from jvrc.coding import packing
from jvrc.coding.container import Container
from jvrc.qstep import qstep_code_of

compress = partial(jvrc.compress, patches=False)  # claims are about the model's streams


@pytest.fixture
def model(tiny_context):
    return tiny_context


def noise(height, width, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=50, deadline=None)
def test_everything_a_position_sees_is_coded_in_an_earlier_wavefront(height, width):
    order = wavefront_order.order(height, width)
    assert sorted(order) == list(range(height * width))
    front = order % width + 3 * (order // width)
    assert np.all(np.diff(front) >= 0)
    number = np.empty(height * width, int)
    number[order] = front
    number = np.pad(number.reshape(height, width), 2, constant_values=-1)
    here = number[2:-2, 2:-2]
    for row, column in [(r, c) for r in (-2, -1, 0) for c in range(-2, 3) if (r, c) < (0, 0)]:
        seen = number[2 + row :, 2 + column :][:height, :width]
        assert np.all(here > seen)
        assert np.all((seen == -1) | (here - seen <= 8))


@given(st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=50, deadline=None)
def test_a_plan_gives_every_position_a_slot_of_its_own(height, width):
    plan = wavefront_order.plan(height, width)
    taken = set(zip(plan.wavefront.tolist(), plan.slot.tolist(), strict=True))
    assert len(taken) == height * width
    assert all(s < plan.used[t] for t, s in taken)
    rows = {(t, int(plan.rows[t, s])) for t, s in taken}
    assert len(rows) == len(taken)  # no two positions share a place in the history
    assert max(r for _, r in rows) < plan.height - 1  # which unused slots write to


@pytest.mark.parametrize(("height", "width"), [(1, 1), (17, 1100), (1100, 17), (130, 250)])
@pytest.mark.parametrize("qstep", [0.5, 3.0, 32.0])
def test_the_decoder_finds_the_encoders_integers(model, height, width, qstep):
    """Also over more wavefronts than one chunk holds."""
    img = noise(height, width)
    code = qstep_code_of(qstep)
    meant = quantise_image(model, img, code)
    coded = Container(model.model_id, height, width, code, (encode_tile(meant),), tile_side=0)
    found = decode_tile(model, coded, 0, coder_of)
    np.testing.assert_array_equal(found.z_q, meant.z_q)
    for a, b in zip(found.symbols, meant.symbols, strict=True):
        np.testing.assert_array_equal(a, b)


def latents_and_coder(model, img, qstep_code):
    """y of an image, and the coder of its z^."""
    y, z = analyse(model, img)
    return y, WavefrontCoder(model, quantise_z(model, z, qstep_code), qstep_code)


def y_stream(model, data):
    """(the stream of y, the index shifts that are stored beside z)."""
    coded = packing.unpack(data)
    (tile,) = coded.tiles
    return tile.y, decode_z(model, tile, coded.grid.blocks, coded.qstep_code)[1]


def test_what_was_decoded_before_changes_what_comes_after(model):
    """Else a context model would be for nothing: other y at the top, other mu at the bottom."""
    code = qstep_code_of(0.5)
    y, coder = latents_and_coder(model, noise(64, 64), code)
    changed = y.copy()
    changed[0] += 50
    a, b = (coder.quantise(v) for v in (y, changed))
    assert np.any(a.mu[1] != b.mu[1])


def test_a_new_size_of_the_same_bucket_compiles_nothing(model):
    compress(model, noise(100, 250), 2.0)
    before = wavefront_loop.run_chunk._cache_size()
    compress(model, noise(120, 230), 3.0)
    assert wavefront_loop.run_chunk._cache_size() == before


@pytest.mark.parametrize("damage", ["flip", "cut", "escapes", "state"])
def test_a_damaged_stream_is_refused(model, damage):
    """The container's checksum finds damage first; below it nothing may crash or hang."""
    code = qstep_code_of(0.5)
    img = noise(64, 128)
    stream, index_shift = y_stream(model, compress(model, img, 0.5))
    _, coder = latents_and_coder(model, img, code)
    words = bytearray(stream.words)
    if damage == "flip":
        words[len(words) // 2] ^= 0x55
    elif damage == "cut":
        words = words[: len(words) // 4 * 2]
    elif damage == "state":
        words[:4] = b"\0\0\0\0"
    escapes = stream.escapes + (b"\1" if damage == "escapes" else b"")
    damaged = stream._replace(words=bytes(words), escapes=escapes)
    with pytest.raises(jvrc.BitstreamError):
        coder.decode(damaged, index_shift)


def test_it_runs_on_the_cpu_wherever_the_model_lives(model):
    data = compress(jax.device_put(model), noise(64, 64), 2.0)
    assert data == compress(model, noise(64, 64), 2.0)
