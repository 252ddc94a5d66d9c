"""Claims about what freezing derives from trained parameters."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from jvrc.export import freezing
from jvrc.integer import hyper_synthesis
from jvrc.model import entropy_models, variable_rate
from jvrc.qstep import CODES_PER_OCTAVE, QSTEP_CODE_MAX, QSTEP_CODE_MIN, qstep_code_of

CODES = QSTEP_CODE_MAX - QSTEP_CODE_MIN + 1
QSTEPS = 2.0 ** (np.arange(QSTEP_CODE_MIN, QSTEP_CODE_MAX + 1) / CODES_PER_OCTAVE)
probability = jax.jit(entropy_models.bottleneck_probability)


def mlp(seed, sizes, *, last_bias):
    """A small network whose output is far from constant."""
    rng = np.random.default_rng(seed)
    params = {}
    for i, shape in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        params[f"kernel{i}"] = rng.normal(0, 0.4, shape).astype(np.float32)
        params[f"bias{i}"] = np.full(shape[1], 0.1, np.float32)
    params[f"bias{len(sizes) - 2}"] += np.float32(last_bias)
    return params


def rows(tables):
    return [tables.freq[a:b] for a, b in zip(tables.start[:-1], tables.start[1:], strict=True)]


def probabilities(row):
    return row[:-1].astype(float) / 2**16


def assert_valid(tables, count):
    assert len(tables.low) == len(tables.start) - 1 == count
    assert tables.start[0] == 0
    assert np.all(np.diff(tables.start) >= 2)  # a value and the escape code
    assert np.all(tables.freq >= 1)
    assert np.all(np.add.reduceat(tables.freq.astype(np.int64), tables.start[:-1]) == 2**16)


def test_every_qstep_code_has_valid_tables(tiny):
    n = tiny.config.N
    assert_valid(tiny.y_tables, 90)
    assert_valid(tiny.z_tables, n * len(tiny.z_steps))
    assert tiny.z_step_index.shape == (CODES,)
    assert set(tiny.z_step_index.tolist()) == set(range(len(tiny.z_steps)))
    assert tiny.z_tables.freq.dtype == tiny.y_tables.freq.dtype == np.uint16


def test_the_cpu_freezes(tiny, monkeypatch):
    """Tables and weights do not depend on the precision of an accelerator's products."""

    found = []
    table = freezing.offset_table

    def offset_table(*args):
        found.append(jax.config.jax_default_device)
        return table(*args)

    monkeypatch.setattr(freezing, "offset_table", offset_table)
    freezing.freeze(tiny.config, jax.device_put(tiny.params), qstep_range=(1.0, 4.0))
    assert found[0] in jax.devices("cpu")


def test_offsets_are_bytes_in_units_of_a_512th(tiny):
    assert tiny.offsets.shape == (CODES, 90)
    assert tiny.offsets.dtype == np.uint8  # so that they lie below 1/2


def test_frozen_models_need_no_constants(tiny):
    assert (tiny.config.latent_scale, tiny.config.hyper_scale) == (1, 1)


def test_header_says_what_the_model_is(tiny):
    assert tiny.metadata["qstep_range"] == [1.0, 16.0]
    assert tiny.metadata["recipe"] == "random weights"
    assert tiny.metadata["model_id"] == tiny.model_id
    assert tiny.metadata["config"] == tiny.config.to_dict()


@pytest.mark.parametrize("z_step", [1.0, 2**-0.625, 4.0])
def test_z_tables_hold_the_probabilities_of_the_bottlenecks_bins(tiny, z_step):
    """In bins of the step's width around the median. A count is rounded; all give to rare ones."""
    bottleneck, n = tiny.params["bottleneck"], tiny.config.N
    medians = np.linspace(-3, 3, n).astype(np.float32)
    tables = freezing.bottleneck_tables(bottleneck, medians, z_step)
    assert_valid(tables, n)
    k = np.arange(-700, 701)
    expected = np.asarray(
        probability(bottleneck, medians + z_step * k[:, None], np.float32(z_step))
    )
    for c, row in enumerate(rows(tables)):
        p = expected[tables.low[c] + 700 :][: len(row) - 1, c]
        slack = 1 / 2**16 + p * len(row) / 2**16
        assert np.all(np.abs(probabilities(row) - p) <= slack)
        assert p.sum() > 0.999


def test_the_models_z_tables_are_those_of_its_steps(tiny):
    n = tiny.config.N
    for j, z_step in enumerate(tiny.z_steps):
        medians, z_step = tiny.medians / 16, z_step / 16
        made = freezing.bottleneck_tables(tiny.params["bottleneck"], medians, z_step)
        for ours, again in zip(tiny.z_tables.select(j * n, n), made, strict=True):
            np.testing.assert_array_equal(ours, again)


def test_scales_run_in_eighths_of_an_octave_from_0_11():
    scales = hyper_synthesis.scale_table()
    assert scales.shape == (90,)
    assert (scales[0], scales[-1]) == pytest.approx((0.11, 245), rel=3e-3)
    np.testing.assert_allclose(scales[1:] / scales[:-1], 2**0.125, rtol=1e-12)


def test_y_tables_hold_the_probabilities_of_gaussian_bins():
    tables = freezing.gaussian_tables()
    assert_valid(tables, 90)
    for scale, low, row in zip(
        hyper_synthesis.scale_table(), tables.low, rows(tables), strict=True
    ):
        k = low + np.arange(len(row) - 1)
        assert low == -k[-1]  # as far to the left as to the right
        p = ndtr((k + 0.5) / scale) - ndtr((k - 0.5) / scale)
        assert np.all(np.abs(probabilities(row) - p) <= (1 + p * len(row)) / 2**16)


@given(st.integers(0, 1000))
@settings(max_examples=5, deadline=None)
def test_steps_of_z_are_near_the_trained_ones(seed):
    """To a sixteenth of an octave, and to a unit of 1/16 of which they are multiples."""
    params = {"z_step": mlp(seed, (1, 10, 10, 1), last_bias=1.0)}
    grid, index = freezing.z_step_grid(params, 1.0, 16.0)
    wanted = variable_rate.z_step(params["z_step"], np.clip(QSTEPS, 1, 16).astype(np.float32))
    assert np.all(np.diff(grid) > 0)
    assert grid[0] >= 8
    nearest = 2.0 ** (np.rint(8 * np.log2(wanted)) / 8)
    assert np.abs(np.log2(nearest / wanted)).max() <= 0.5 / 8 + 1e-5
    assert np.abs(grid[index] / 16 - nearest).max() <= 1 / 32
    assert (index.dtype, index.shape) == (np.int32, (CODES,))


def test_what_depends_on_the_step_stays_at_the_ends_of_the_trained_range():
    params = {
        "z_step": mlp(4, (1, 10, 10, 1), last_bias=1.0),
        "offset": mlp(4, (2, 12, 12, 1), last_bias=0.25),
    }
    _, index = freezing.z_step_grid(params, 1.0, 16.0)
    offsets = freezing.offset_table(params, 1.0, 16.0)
    outside_low, outside_high = np.flatnonzero(QSTEPS <= 1), np.flatnonzero(QSTEPS >= 16)
    for table in (index, offsets):
        assert np.all(table[outside_low] == table[outside_low[-1]])
        assert np.all(table[outside_high] == table[outside_high[0]])
    assert np.ptp(offsets, axis=0).max() > 25


def test_the_offset_table_is_the_network_clipped():
    params = mlp(4, (2, 12, 12, 1), last_bias=0.25)
    offsets = freezing.offset_table({"offset": params}, 1.0, 16.0)
    scale = hyper_synthesis.scale_table().astype(np.float32)
    for qstep in (1.0, 2.0, 16.0):
        row = offsets[qstep_code_of(qstep) - QSTEP_CODE_MIN]
        expected = variable_rate.offset(params, scale, np.float32(qstep))
        assert np.abs(row / 512 - np.clip(expected, 0, 255 / 512)).max() < 0.501 / 512
    assert np.unique(offsets).size > 20


def test_a_diverged_prior_is_not_frozen(tiny):
    broken = tiny.params["bottleneck"] | {"bias4": np.full((tiny.config.N, 1, 1), np.nan)}
    with pytest.raises(ValueError, match="did training diverge"):
        freezing.bottleneck_tables(broken, tiny.medians, 1.0)
