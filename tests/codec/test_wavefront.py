"""Claims about coding in wavefronts, on tiny models with random weights."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jvrc
from jvrc.codec import image as codec
from jvrc.codec import wavefront
from jvrc.coding import container
from jvrc.qstep import qstep_code_of


@pytest.fixture
def model(tiny_context):
    return tiny_context


def picture(height, width, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=50, deadline=None)
def test_everything_a_position_sees_is_coded_in_an_earlier_wavefront(height, width):
    order = wavefront.order(height, width)
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


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=4))
@settings(max_examples=50, deadline=None)
def test_a_plan_gives_every_position_a_slot_of_its_own(shapes):
    plan = wavefront._plan(shapes)
    taken = set()
    for b, (h, w) in enumerate(shapes):
        slots = list(zip(plan.at[b].tolist(), plan.slot[b].tolist(), strict=True))
        assert len(slots) == h * w
        assert not taken & set(slots)
        taken |= set(slots)
        assert all(plan.bounds[t, b] <= s < plan.bounds[t, b + 1] for t, s in slots)
        assert all(plan.picture[t, s] == b for t, s in slots)
    rows = {(t, int(plan.rows[t, s])) for t, s in taken}
    assert len(rows) == len(taken)  # no two positions share a place in the history
    assert max(r for _, r in rows) < plan.height - 1  # which unused slots write to


@pytest.mark.parametrize(("height", "width"), [(1, 1), (17, 1100), (1100, 17), (130, 250)])
@pytest.mark.parametrize("qstep", [0.5, 3.0, 32.0])
def test_the_decoder_finds_the_encoders_integers(model, height, width, qstep):
    """Also over more wavefronts than one chunk holds."""
    img = picture(height, width)
    code = qstep_code_of(qstep)
    latents = codec.quantise(model, *codec.analyse(model, img), code)
    decoded = codec.decode_latents(model, jvrc.compress(model, img, qstep))
    for a, b in zip(latents, decoded, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_streams_of_a_batch_are_those_of_each_picture_alone(model):
    """Pictures of several sizes, at steps of their own, in one loop."""
    shapes, qsteps = ((64, 64), (130, 250), (64, 192)), (1.0, 2.5, 7.0)
    codes = [qstep_code_of(q) for q in qsteps]
    alone, y, psi, streams, shifts = [], [], [], [], []
    for seed, (shape, qstep, code) in enumerate(zip(shapes, qsteps, codes, strict=True)):
        img = picture(*shape, seed)
        latents, z = codec.analyse(model, img)
        y.append(latents)
        psi.append(codec._psi(model, codec.round_z(model, z, code), code))
        alone.append(codec.quantise(model, latents, z, code)[1:])
        streams.append(container.unpack(jvrc.compress(model, img, qstep)))
        shifts.append(codec._decode_z(model, streams[-1])[1])
    assert any(by.any() for by in shifts)
    together = wavefront.encode(model, y, psi, codes)
    decoded = wavefront.decode(model, [s.y for s in streams], psi, codes, shifts)
    for one, encoded, found in zip(alone, together, decoded, strict=True):
        for a, b, c in zip(one, encoded, found, strict=True):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(a, c)


def test_what_was_decoded_before_changes_what_comes_after(model):
    """Else a context model would be for nothing: other y at the top, other mu at the bottom."""
    code = qstep_code_of(0.5)
    y, z = codec.analyse(model, picture(64, 64))
    psi = codec._psi(model, codec.round_z(model, z, code), code)
    changed = y.copy()
    changed[0] += 50
    (a,), (b,) = (wavefront.encode(model, [v], [psi], [code]) for v in (y, changed))
    assert np.any(a.mu[1] != b.mu[1])


def test_a_new_size_of_the_same_bucket_compiles_nothing(model):
    jvrc.compress(model, picture(100, 250), 2.0)
    before = wavefront._run._cache_size()
    jvrc.compress(model, picture(120, 230), 3.0)
    assert wavefront._run._cache_size() == before


@pytest.mark.parametrize("damage", ["flip", "cut", "escapes", "state"])
def test_a_damaged_stream_is_refused(model, damage):
    """The container's checksum finds damage first; below it nothing may crash or hang."""
    code = qstep_code_of(0.5)
    img = picture(64, 128)
    whole = container.unpack(jvrc.compress(model, img, 0.5))
    stream, by = whole.y, codec._decode_z(model, whole)[1]
    _, z = codec.analyse(model, img)
    psi = codec._psi(model, codec.round_z(model, z, code), code)
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
        wavefront.decode(model, [damaged], [psi], [code], [by])


def test_it_runs_on_the_cpu_wherever_the_model_lives(model):
    data = jvrc.compress(jax.device_put(model), picture(64, 64), 2.0)
    assert data == jvrc.compress(model, picture(64, 64), 2.0)
