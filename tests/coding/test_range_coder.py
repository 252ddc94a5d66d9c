"""Claims about the range coder: exact bytes, round trips, size, and damaged streams."""

import itertools
import math

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jvrc.coding.range_coder import Decoder, choose_lanes, decode, encode, prepare
from jvrc.coding.tables import CdfTables
from jvrc.errors import BitstreamError

ONE = 2**16
LANES = [1, 2, 4, 8, 16, 32, 64, 4096]
SMALL = settings(max_examples=25, deadline=None)


def tables_of(rows):
    """Tables from rows of frequencies that sum to 2**16; symbol 0 stands for 0."""
    start = np.cumsum([0, *map(len, rows)])
    return CdfTables(np.concatenate(rows), start, np.zeros(len(rows), np.int32))


def random_tables(rng, count=5, most=300):
    rows = [[ONE]]
    for _ in range(count - 1):
        cuts = rng.choice(np.arange(1, ONE), rng.integers(1, most), replace=False)
        rows.append(np.diff(np.concatenate([[0], np.sort(cuts), [ONE]])))
    return tables_of(rows)


def draw(rng, tables, index):
    """Symbols that follow their tables."""
    slots = rng.integers(0, ONE, len(index))
    symbols = np.zeros(len(index), np.int32)
    for t, (first, end) in enumerate(itertools.pairwise(tables.start)):
        at = index == t
        symbols[at] = np.searchsorted(np.cumsum(tables.freq[first:end]), slots[at], side="right")
    return symbols


def ideal_bytes(symbols, index, tables):
    return -np.log2(tables.freq[tables.start[index] + symbols] / ONE).sum() / 8


def gaussian_tables(count=64):
    """Gaussians at log-spaced scales 0.11 ... 256 in unit bins, as the codec has them."""
    rows = []
    for scale in np.geomspace(0.11, 256, count):
        reach = math.ceil(4 * scale)
        edges = (np.arange(-reach, reach + 2) - 0.5) / (scale * math.sqrt(2))
        mass = np.diff([math.erf(edge) for edge in edges])
        row = 1 + np.floor(mass / mass.sum() * (ONE - len(mass))).astype(int)
        row[reach] += ONE - row.sum()
        rows.append(row)
    return tables_of(rows)


def reference_encode(symbols, index, tables, lanes):
    """The module's specification word for word, in Python integers."""
    states, words = [ONE] * lanes, []
    for i in reversed(range(len(symbols))):
        first, at = tables.start[index[i]], tables.start[index[i]] + symbols[i]
        c, f = int(tables.freq[first:at].sum()), int(tables.freq[at])
        x = states[i % lanes]
        if x >= f * ONE:
            words.append(x % ONE)
            x //= ONE
        states[i % lanes] = x // f * ONE + x % f + c
    head = b"".join(x.to_bytes(4, "little") for x in states[: len(symbols)])
    return head + b"".join(w.to_bytes(2, "little") for w in reversed(words))


@pytest.fixture(scope="module")
def gaussians():
    return gaussian_tables()


@pytest.fixture(scope="module")
def prepared_gaussians(gaussians):
    return prepare(gaussians)


@pytest.fixture(scope="module")
def sample():
    """(data, symbols, index, prepared tables, lanes) of a stream of a few hundred bytes."""
    rng = np.random.default_rng(5)
    tables = random_tables(rng)
    index = rng.integers(0, 5, 700)
    symbols = draw(rng, tables, index)
    prepared = prepare(tables)
    return encode(symbols, index, prepared, 4), symbols, index, prepared, 4


@SMALL
@given(st.integers(0, 2**32 - 1), st.integers(0, 300), st.sampled_from(LANES))
def test_decode_inverts_encode_and_bytes_are_the_specified_ones(seed, n, lanes):
    rng = np.random.default_rng(seed)
    tables = random_tables(rng)
    index = rng.integers(0, 5, n)
    symbols = draw(rng, tables, index)
    prepared = prepare(tables)
    data = encode(symbols, index, prepared, lanes)
    assert data == reference_encode(symbols, index, tables, lanes)
    decoded = decode(data, index, prepared, lanes)
    assert decoded.dtype == np.int32
    np.testing.assert_array_equal(decoded, symbols)


@SMALL
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 90), max_size=4),
    st.sampled_from(LANES),
    st.booleans(),
)
def test_a_stream_may_be_taken_in_parts(seed, sizes, lanes, lanes_at_once):
    """A part begins at whichever lane is next; its tables may follow from earlier parts."""
    rng = np.random.default_rng(seed)
    tables = random_tables(rng)
    index = rng.integers(0, 5, sum(sizes))
    symbols, prepared = draw(rng, tables, index), prepare(tables)
    data = encode(symbols, index, prepared, lanes)
    decoder = Decoder(data, len(index), prepared, lanes, lanes_at_once=lanes_at_once)
    ends = np.cumsum([0, *sizes])
    parts = [decoder.take(index[a:b]) for a, b in itertools.pairwise(ends)]
    decoder.finish()
    np.testing.assert_array_equal(np.concatenate([symbols[:0], *parts]), symbols)


def test_a_stream_of_which_a_part_is_left_does_not_end_there(sample):
    data, _, index, prepared, lanes = sample
    decoder = Decoder(data, len(index), prepared, lanes)
    decoder.take(index[:300])
    with pytest.raises(BitstreamError, match="do not end with the symbols"):
        decoder.finish()


@pytest.mark.parametrize("n", [0, 1, 4095, 4096, 4097, 32769, 70001])
@pytest.mark.parametrize("lanes", [1, 16, 64])
def test_any_length_survives_the_chunks(n, lanes, gaussians, prepared_gaussians):
    rng = np.random.default_rng(n)
    index = rng.integers(0, 64, n)
    symbols = draw(rng, gaussians, index)
    data = encode(symbols, index, prepared_gaussians, lanes)
    np.testing.assert_array_equal(decode(data, index, prepared_gaussians, lanes), symbols)


def test_bytes_are_the_golden_ones():
    tables = prepare(tables_of([[ONE], [1, ONE - 1], [20000, 30000, 15000, 536]]))
    index = np.array([2, 1, 0, 2, 2, 1, 2, 2, 0, 1, 2, 2, 2])
    symbols = np.array([0, 1, 0, 1, 3, 0, 2, 1, 0, 1, 3, 1, 0])
    golden = {
        1: "e94d6a00 000086f6",
        2: "73060d00 4bba0a00 38dff367",
        16: "a0150300 02000100 00000100 c0630200 78fe7a00 00000100 f0d80400 c0630200 "
        "00000100 02000100 78fe7a00 c0630200 a0150300 0000",
    }
    for lanes, text in golden.items():
        assert encode(symbols, index, tables, lanes).hex() == text.replace(" ", "")
        np.testing.assert_array_equal(decode(bytes.fromhex(text), index, tables, lanes), symbols)


def test_no_symbols_are_no_bytes():
    assert encode(np.zeros(0, int), np.zeros(0, int), prepare(tables_of([[ONE]])), 64) == b""


def test_certain_symbols_take_only_the_states():
    zeros = np.zeros(5000, np.int32)
    assert encode(zeros, zeros, prepare(tables_of([[ONE]])), 2).hex() == "00000100" * 2


@pytest.mark.parametrize("n", [100, 1000, 10_000, 100_000])
def test_size_is_within_half_a_percent_and_16_bytes_of_the_ideal(n, gaussians, prepared_gaussians):
    rng = np.random.default_rng(n)
    index = np.minimum(rng.geometric(0.1, n) - 1, 63)
    symbols = draw(rng, gaussians, index)
    ideal = ideal_bytes(symbols, index, gaussians)
    size = len(encode(symbols, index, prepared_gaussians, choose_lanes(ideal)))
    assert ideal <= size <= 1.005 * ideal + 16


def test_lanes_grow_with_the_stream_as_powers_of_two():
    lanes = [choose_lanes(size) for size in (0, 1, 4095, 8191, 8192, 59_000, 10**6, 10**9)]
    assert lanes == [1, 1, 1, 1, 2, 8, 64, 64]


@pytest.mark.parametrize(("n", "lanes"), [(0, 4), (3, 4), (700, 1), (700, 64), (70_001, 16)])
def test_decoding_all_lanes_at_once_gives_the_same(n, lanes, gaussians, prepared_gaussians):
    rng = np.random.default_rng(n)
    index = rng.integers(0, 64, n)
    symbols = draw(rng, gaussians, index)
    data = encode(symbols, index, prepared_gaussians, lanes)
    decoded = decode(data, index, prepared_gaussians, lanes, lanes_at_once=True)
    assert decoded.dtype == np.int32
    np.testing.assert_array_equal(decoded, symbols)


def test_decoding_all_lanes_at_once_notices_damage(sample):
    data, _, index, prepared, lanes = sample
    for wrong in (data[:-2], data + b"\0\0", data[:40] + b"??" + data[42:]):
        with pytest.raises(BitstreamError):
            decode(wrong, index, prepared, lanes, lanes_at_once=True)


@pytest.mark.gpu
def test_an_accelerator_writes_and_reads_the_same_bytes(sample):
    data, symbols, index, _, lanes = sample
    device = jax.devices()[0]
    if device.platform == "cpu":
        pytest.skip("needs an accelerator")
    prepared = prepare(random_tables(np.random.default_rng(5)), device=device)
    assert encode(symbols, index, prepared, lanes) == data
    np.testing.assert_array_equal(decode(data, index, prepared, lanes), symbols)


def test_another_length_or_lane_count_compiles_nothing_in_the_decoder_nor_a_length_in_the_encoder(
    sample, compiled
):
    _, symbols, index, prepared, _ = sample
    symbols, index = np.tile(symbols, 100), np.tile(index, 100)  # 70,000: both chunk sizes
    data = encode(symbols, index, prepared, 4)
    decode(data, index, prepared, 4)
    compiled.clear()
    for n in (1, 699, 5001, 69_999):
        data = encode(symbols[:n], index[:n], prepared, 4)
        decode(data, index[:n], prepared, 4)
    assert not compiled
    data = reference_encode(symbols[:300], index[:300], random_tables(np.random.default_rng(5)), 32)
    decode(data, index[:300], prepared, 32)
    assert not compiled


@pytest.mark.parametrize("x64", [False, True])
def test_bytes_do_not_depend_on_x64_nor_on_the_promotion_rules(sample, x64):
    data, symbols, index, prepared, lanes = sample
    with (
        jax.enable_x64(x64),
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
    ):
        assert encode(symbols, index, prepared, lanes) == data
        decoded = decode(data, index, prepared, lanes)
    assert decoded.dtype == np.int32
    np.testing.assert_array_equal(decoded, symbols)


@SMALL
@given(st.data())
def test_random_bytes_raise_or_decode_to_symbols_in_range(sample, data):
    _, _, index, prepared, lanes = sample
    garbage = data.draw(st.binary(max_size=1200))
    n = data.draw(st.integers(0, len(index)))
    try:
        symbols = decode(garbage, index[:n], prepared, lanes)
    except BitstreamError:
        return
    assert symbols.shape == (n,)
    assert ((symbols >= 0) & (symbols < prepared.sizes[index[:n]])).all()


@SMALL
@given(st.data())
def test_truncated_and_extended_streams_are_rejected(sample, data):
    stream, _, index, prepared, lanes = sample
    cut = data.draw(st.integers(0, len(stream) - 1))
    more = data.draw(st.binary(min_size=1, max_size=9))
    for wrong in (stream[:cut], stream + more):
        with pytest.raises(BitstreamError):
            decode(wrong, index, prepared, lanes)


def test_a_changed_byte_does_not_pass_unseen(sample):
    stream, _, index, prepared, lanes = sample
    for at in range(0, len(stream), 41):
        wrong = bytearray(stream)
        wrong[at] ^= 0x10
        with pytest.raises(BitstreamError):
            decode(bytes(wrong), index, prepared, lanes)


def test_a_state_below_the_interval_is_rejected(sample):
    stream, _, index, prepared, lanes = sample
    with pytest.raises(BitstreamError, match="state is below"):
        decode(stream[:2] + b"\0\0" + stream[4:], index, prepared, lanes)


def test_symbols_for_other_tables_are_rejected(sample):
    stream, _, index, prepared, lanes = sample
    with pytest.raises(BitstreamError):
        decode(stream, 4 - index, prepared, lanes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"symbols": [0, 2]}, r"symbols\[1\] must be in 0 ... 1, got 2"),
        ({"symbols": [-1, 0]}, r"symbols\[0\] must be in 0 ... 0, got -1"),
        ({"symbols": [0]}, "symbols must be integers of index's shape"),
        ({"symbols": [0.0, 0.0]}, "symbols must be integers"),
        ({"index": [0, 2]}, r"index must be in 0 ... 1, got 0 ... 2"),
        ({"index": [-1, 0]}, "index must be in 0 ... 1, got -1 ... 0"),
        ({"index": [[0, 1]]}, "index must be a row of integers"),
        ({"lanes": 0}, "lanes must be a power of two, 1 to 4096, got 0"),
        ({"lanes": 3}, "lanes must be a power of two"),
        ({"lanes": 8192}, "lanes must be a power of two"),
    ],
)
def test_impossible_arguments_are_named_in_one_line(change, message):
    call = {"symbols": [0, 1], "index": [0, 1], "lanes": 1} | change
    tables = prepare(tables_of([[ONE], [1, ONE - 1]]))
    with pytest.raises(ValueError, match=message) as caught:
        encode(np.array(call["symbols"]), np.array(call["index"]), tables, call["lanes"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("freq", "start", "message"),
    [
        ([5, 0, ONE - 5], [0, 3], "positive"),
        ([5, -5, ONE], [0, 3], "positive"),
        ([5, ONE - 6], [0, 2], "sum to 65536"),
        ([ONE - 1, ONE + 1], [0, 1, 2], "sum to 65536"),
        ([ONE], [0, 1, 1], "rise strictly"),
        ([ONE, ONE], [0, 1], "rise strictly from 0 to the length"),
        ([ONE, ONE], [1, 2], "rise strictly from 0 to the length"),
        ([float(ONE)], [0, 1], "rows of integers"),
        ([[ONE]], [0, 1], "rows of integers"),
        (np.zeros(0, int), [0], "must number 1 to 65534, got 0"),
    ],
)
def test_impossible_tables_are_refused(freq, start, message):
    freq, start = np.array(freq), np.array(start)
    with pytest.raises(ValueError, match=message) as caught:
        prepare(CdfTables(freq, start, np.zeros(len(start) - 1, np.int32)))
    assert "\n" not in str(caught.value)
