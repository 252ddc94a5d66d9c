"""Claims about fitting a refinement of scales to symbols."""

import jax
import numpy as np
import pytest
from small import refined_2026, spread_2026

import jvrc
from jvrc.codec.image.encoder import quantise_image
from jvrc.codec.tiles.table_choice import choose_tables
from jvrc.coding.tables import ideal_bits, to_symbols
from jvrc.export.freezing import gaussian_tables
from jvrc.export.refinement import bits, fitting, network, rounding
from jvrc.frozen.file import save_model
from jvrc.integer import scale_refinement
from jvrc.model import jvrc2026

pytest.importorskip("optax")
M, HIDDEN = 8, 6
COST = bits.costs_of(gaussian_tables())
SCORE = bits.scores_of(COST)
IN_BITS = SCORE * np.float32(bits.SCORE_UNIT)


def drawn(rng, side=16):
    """Symbols whose scales are off by a factor that is the same all over a crop."""
    index = rng.integers(8, 40, (side, side, M))
    scale = 0.11 * 2 ** ((index + rng.uniform(-8, 8)) / 8)
    size = np.minimum(np.abs(np.rint(rng.normal(0, scale))), bits.LARGEST)
    return network.Sample(size.astype(np.uint8), index.astype(np.uint8), np.int32(20))


def batch_of(samples):
    return network.Sample(*(np.stack(parts) for parts in zip(*samples, strict=True)))


@pytest.fixture(scope="module")
def samples():
    rng = np.random.default_rng(0)
    return [drawn(rng) for _ in range(40)]


@pytest.fixture(scope="module")
def params(samples):
    with jax.numpy_dtype_promotion("standard"):  # Adam of optax needs it
        return fitting.trained(COST, samples, hidden=HIDDEN, training_steps=400)


def test_costs_are_the_bits_of_the_tables():
    index, size = np.array([10, 30, 60]), np.array([0, 3, 20])
    tables = gaussian_tables()
    for i, v in zip(index, size, strict=True):
        symbols, _ = to_symbols(np.array([v]), np.array([i]), tables)
        assert COST[i, v] == pytest.approx(ideal_bits(symbols, np.array([i]), tables), abs=1e-3)


def test_costs_between_two_tables_are_linear():
    at = np.array([10.0, 10.25, 11.0], np.float32)
    found = bits.bits_between(COST, at, np.full(3, 2))
    a, b = COST[10, 2], COST[11, 2]
    np.testing.assert_allclose(found, [a, 0.75 * a + 0.25 * b, b], rtol=1e-4)


def test_scores_average_to_zero_where_scales_are_right():
    """They are slopes of the bits of a distribution, of which the expectation is zero."""
    for index in (16, 24, 30):
        p = 2.0 ** -COST[index, :16] * np.where(np.arange(16), 2, 1)
        assert abs(p @ SCORE[index]) < 0.6
    assert np.all(SCORE[40:50, 15] > 0)  # scales of 3.5 to 7.7; under smaller ones 15 is escaped
    assert np.all(SCORE[20:50, 0] < 0)


def test_a_new_network_changes_nothing(samples):
    batch = batch_of(samples[:3])
    for step in range(jvrc2026.STEPS):
        params = network.new_params(M, HIDDEN, step, seed=1)
        assert network.loss(step, params, batch, IN_BITS, COST) == pytest.approx(1, abs=1e-4)
        for found in network.evaluate(step, params, batch, IN_BITS):
            assert not np.any(found.change)


def test_what_earlier_symbols_say_is_learned(params):
    """On crops that were not seen; the first step has no earlier symbols to go by."""
    rng = np.random.default_rng(1)
    batch = batch_of([drawn(rng) for _ in range(20)])
    losses = [float(network.loss(k, p, batch, IN_BITS, COST)) for k, p in enumerate(params)]
    assert abs(losses[0] - 1) < 0.01
    assert losses[1] < 0.99
    assert losses[3] < losses[2] < losses[1]


def test_integers_give_what_the_float_networks_do(params, samples):
    refinement = rounding.to_integers(params, SCORE, samples)
    scale_refinement.check(refinement, M)
    for step in range(jvrc2026.STEPS):
        for sample in samples[:5]:
            size = np.minimum(sample.magnitude, scale_refinement.MAGNITUDE_MAX)
            rounded = scale_refinement.refine(
                refinement, np.int32(step), size, sample.index, sample.code
            )
            now = jvrc2026.step_numbers(M, *size.shape[:2]) == step
            batch = batch_of([sample])
            found = list(network.evaluate(step, params[step], batch, IN_BITS))
            exact = [np.ravel(np.asarray(f.index) + np.asarray(f.change)) for f in found]
            mine = [np.asarray(rounded)[now_of(g, step, size.shape)].ravel() for g in range(4)]
            error = np.abs(np.concatenate(exact).clip(0, 89) - np.concatenate(mine))
            assert now.sum() == error.size
            assert error.max() < 0.6
            assert error.mean() < 0.3


def now_of(group, step, shape):
    """Which latents of a group of channels are of a step."""
    numbers = jvrc2026.step_numbers(M, *shape[:2])
    return (numbers == step) & (np.arange(M) * 4 // M == group)


def test_a_model_is_refined_and_keeps_its_id(tmp_path):
    model = spread_2026(tmp_path / "model.safetensors")
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (512, 520, 3), np.uint8) for _ in range(2)]
    with jax.numpy_dtype_promotion("standard"):
        found = fitting.refined(model, images, hidden=4, training_steps=60)
    found = save_model(found, tmp_path / "refined.safetensors")
    assert found.model_id == model.model_id
    assert found.refinement_id
    quantised = quantise_image(found, images[0][:256, :256], 256)
    assert choose_tables(quantised.coder, quantised.symbols).refined
    data, plain = (jvrc.compress(m, images[0], 4.0, patches=False) for m in (found, model))
    assert len(data) < len(plain)
    np.testing.assert_array_equal(jvrc.decompress(found, data), jvrc.decompress(model, plain))


def test_what_can_not_be_refined_is_said(tmp_path, tiny_2018):
    with pytest.raises(ValueError, match=r"models of jvrc2026; this one is of"):
        fitting.refined(tiny_2018, [], hidden=4, training_steps=1)
    model = refined_2026(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="512 pixels a side"):
        fitting.refined(model, [np.zeros((511, 600, 3), np.uint8)], hidden=4, training_steps=1)
