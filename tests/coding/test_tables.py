"""Claims about integer tables: frequencies, the escape code, and symbols."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit, ndtr

from jvrc.coding import tables
from jvrc.export import freezing

ONE = 2**16
SOME = settings(max_examples=25, deadline=None)


def gaussian(scale, mean=0.0):
    return lambda x: ndtr((x - mean) / scale)


def logistic(scale, mean=0.0):
    return lambda x: expit((x - mean) / scale)


def excess_bits(p, freq):
    """Bits a symbol above the entropy, when symbols of probability p are coded with freq."""
    p = p / p.sum()
    at = p > 0
    return np.sum(p[at] * np.log2(p[at] * ONE / freq[at]))


def best_frequencies(p):
    """The optimum: the cost is convex, so each count goes to where it saves most at the time."""

    def bought(price):  # all counts that save at least so much
        return 1 + np.floor(1 / np.expm1(np.clip(price / p, 1e-15, 700))).astype(np.int64)

    low, high = 0.0, 1.0
    for _ in range(100):
        price = (low + high) / 2
        low, high = (price, high) if bought(price).sum() > ONE else (low, price)
    freq = bought(high)
    dearest = np.argsort(-p * np.log1p(1 / freq))[: ONE - freq.sum()]
    freq[dearest] += 1
    return freq


probabilities = (
    st.integers(2, 400)
    .flatmap(lambda n: arrays(np.float64, n, elements=st.floats(0, 1, allow_subnormal=False)))
    .filter(lambda p: p.sum() > 1e-6)
)


@given(probabilities)
@SOME
def test_frequencies_are_positive_and_sum_to_the_total(p):
    freq = tables.integer_frequencies(p)
    assert freq.shape == p.shape
    assert freq.min() >= 1
    assert freq.sum() == ONE


@given(probabilities, st.floats(0.1, 8))
@SOME
def test_frequencies_cost_little_more_than_the_entropy(p, power):
    p = p**power + 1e-12
    assert excess_bits(p, tables.integer_frequencies(p)) <= 1.5 * len(p) / ONE


@given(st.integers(0, 1000), st.integers(2, 3000), st.floats(0.1, 6))
@SOME
def test_frequencies_are_as_good_as_the_optimum(seed, n, power):
    p = np.random.default_rng(seed).uniform(0.01, 1, n) ** power
    p /= p.sum()
    best = best_frequencies(p)
    assert best.sum() == ONE
    ours = excess_bits(p, tables.integer_frequencies(p))
    assert ours <= excess_bits(p, best) + 0.01 * n / ONE


@pytest.mark.parametrize("n", [2, 3, 1000, 40_000, ONE])
def test_equal_probabilities_differ_by_one_count_at_most(n):
    """Ties at the scale where the sum jumps past 2**16 are shared out."""
    freq = tables.integer_frequencies(np.full(n, 1 / n))
    assert np.ptp(freq) <= 1
    assert freq.sum() == ONE


def test_a_certain_symbol_leaves_one_count_to_the_others():
    np.testing.assert_array_equal(tables.integer_frequencies([0, 1, 0]), [1, ONE - 2, 1])


@pytest.mark.parametrize("p", [[0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0]])
def test_what_is_no_distribution_is_refused(p):
    with pytest.raises(ValueError, match="p must have a positive, finite sum; got .*diverge"):
        tables.integer_frequencies(p)


@given(st.floats(0.05, 300), st.floats(-20, 20), st.sampled_from([gaussian, logistic]))
@SOME
def test_a_table_covers_its_distribution(scale, mean, family):
    cdf = family(scale, mean)
    freq, low = tables.table_from_cdf(cdf, 0)
    k = low + np.arange(len(freq) - 1)
    p = cdf(k + 0.5) - cdf(k - 0.5)
    escape = 1 - p.sum()
    assert freq.sum() == ONE
    assert freq.min() >= 1
    # A logistic tail of mass t begins with a bin of t (1 - t) (1 - exp(-1 / scale)) or more, and
    # that bin is too rare to be kept; a Gaussian's tail is thinner.
    assert escape * (1 - escape) <= 2 * 2.0**-17 / -np.expm1(-1 / scale)
    assert cdf(low - 0.5) - cdf(low - 1.5) < 2.0**-17
    assert cdf(k[-1] + 1.5) - cdf(k[-1] + 0.5) < 2.0**-17
    assert excess_bits(np.append(p, escape), freq) <= 1.5 * len(freq) / ONE


def test_the_last_symbol_stands_for_all_values_outside():
    """P = 1/4 each for 0, 1 and two values out of reach."""

    def cdf(x):
        return np.sum([x > -1e9, x > -0.25, x > 0.75, x > 1e9], axis=0) / 4

    freq, low = tables.table_from_cdf(cdf, 0)
    assert low == 0
    np.testing.assert_array_equal(freq, [ONE // 4, ONE // 4, ONE // 2])


def test_a_distribution_far_from_the_centre_is_found():
    freq, low = tables.table_from_cdf(gaussian(0.2, 100.0), 0)
    assert low <= 100 < low + len(freq) - 1
    assert freq[100 - low] > 0.95 * ONE


def test_a_distribution_out_of_reach_is_left_to_the_escape_code():
    np.testing.assert_array_equal(tables.table_from_cdf(gaussian(0.2, 1e5), 0)[0], [1, ONE - 1])


def test_a_centre_saves_the_search():
    a, b = (tables.table_from_cdf(gaussian(2.0, 5000.0), centre) for centre in (0, 5000))
    np.testing.assert_array_equal(a[0], b[0])
    assert a[1] == b[1]


@pytest.fixture(scope="module")
def several():
    """Six tables of different sizes and places."""
    cdfs = [gaussian(0.1), gaussian(1.0), logistic(3.0, 2.0), gaussian(40.0), logistic(0.5)]
    cdfs.append(gaussian(0.3, -700.0))
    return tables.build(cdfs, [0, 0, 2, 0, 0, -700])


def test_types_are_those_of_the_file(several):
    assert [a.dtype for a in several] == [np.uint16, np.int32, np.int32]
    assert several.start[0] == 0
    assert several.start[-1] == several.freq.size
    assert several.low.shape == (6,)


def test_frequencies_of_every_table_are_positive_and_sum_to_the_total(several):
    assert several.freq.min() >= 1
    for t in range(6):
        row = several.freq[several.start[t] : several.start[t + 1]]
        assert len(row) >= 2
        assert row.sum() == ONE


@pytest.mark.parametrize(("first", "count"), [(0, 6), (0, 1), (2, 3), (5, 1)])
def test_select_cuts_out_whole_tables(several, first, count):
    part = several.select(first, count)
    assert part.start[0] == 0
    np.testing.assert_array_equal(part.low, several.low[first : first + count])
    for t in range(count):
        whole = several.freq[several.start[first + t] : several.start[first + t + 1]]
        np.testing.assert_array_equal(part.freq[part.start[t] : part.start[t + 1]], whole)


extreme = st.one_of(
    st.integers(-(2**20), 2**20), st.integers(-10, 10), st.sampled_from([-(2**20), 2**20])
)


@given(arrays(np.int32, st.integers(0, 60), elements=extreme), st.randoms(use_true_random=False))
@SOME
def test_values_survive_their_symbols(several, values, random):
    index = np.array([random.randrange(6) for _ in values], np.uint8)
    symbols, escaped = tables.to_symbols(values, index, several)
    sizes = np.diff(several.start)[index]
    assert symbols.dtype == np.int32
    assert np.all((symbols >= 0) & (symbols < sizes))
    np.testing.assert_array_equal(tables.escapes_in(symbols, index, several), symbols == sizes - 1)
    back = tables.to_values(symbols, index, several, escaped)
    assert back.dtype == np.int32
    np.testing.assert_array_equal(back, values)


def test_only_values_outside_a_table_escape(several):
    low, size = int(several.low[2]), int(several.start[3] - several.start[2])
    values = np.array([low - 1, low, low + size - 2, low + size - 1], np.int32)
    symbols, escaped = tables.to_symbols(values, np.full(4, 2), several)
    np.testing.assert_array_equal(symbols, [size - 1, 0, size - 2, size - 1])
    np.testing.assert_array_equal(escaped, [low - 1, low + size - 1])


def test_ideal_bits_add_up(several):
    index, symbols = np.array([0, 1, 2, 3, 3]), np.array([0, 2, 1, 0, 5])
    freq = several.freq[several.start[index] + symbols].astype(float)
    expected = -np.sum(np.log2(freq / ONE))
    assert tables.ideal_bits(symbols, index, several) == pytest.approx(expected, rel=1e-6)
    assert tables.ideal_bits(symbols[:0], index[:0], several) == 0


def test_bit_costs_are_those_of_the_tables():
    found = freezing.gaussian_tables()
    values = np.arange(-64, 65)
    costs = tables.bit_costs(found, values)
    assert costs.shape == (90, 129)
    for table in range(90):
        symbols, _ = tables.to_symbols(values, np.full(129, table), found)
        regular = symbols < np.diff(found.start)[table] - 1
        freq = found.select(table, 1).freq[symbols]
        np.testing.assert_allclose(costs[table, regular], 16 - np.log2(freq[regular]), atol=1e-4)
        assert np.all(costs[table, ~regular] > 16 - np.log2(freq[~regular]) + 7)


def test_concatenated_tables_are_those_of_the_parts():
    one, other = (freezing.gaussian_tables().select(i, n) for i, n in ((3, 2), (40, 5)))
    both = tables.concatenate([one, other])
    for i in range(7):
        expected = one.select(i, 1) if i < 2 else other.select(i - 2, 1)
        for a, b in zip(both.select(i, 1), expected, strict=True):
            np.testing.assert_array_equal(a, b)
