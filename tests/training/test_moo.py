"""Weightings of gradients: optimality, degenerate gradients, independent references, optax."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jvrc.training import moo

# Gram matrices of conflicting gradients, and one as seen in training: cosines of 0.68 to 0.92 and
# norms of 0.9 to 56.
GRAMS = [
    [[18, -22], [-22, 38]],
    [[14, -10, 4], [-10, 21, -1], [4, -1, 12]],
    [[14, -5, -5, -4], [-5, 15, 0, 0], [-5, 0, 22, -8], [-4, 0, -8, 18]],
    [
        [0.81, 0.76, 0.665, 0.802, 5.471, 39.954],
        [0.76, 1.21, 0.993, 1.21, 8.863, 55.116],
        [0.665, 0.993, 1.0, 1.079, 7.894, 50.249],
        [0.802, 1.21, 1.079, 1.44, 9.384, 61.74],
        [5.471, 8.863, 7.894, 9.384, 81.0, 423.478],
        [39.954, 55.116, 50.249, 61.74, 423.478, 3136.0],
    ],
]
# quadprog 0.1.14 (through qpsolvers 4.13.0); SciPy's SLSQP and TorchJD agree to 1e-11
MIN_NORM = [
    [0.6, 0.4],
    [0.465819, 0.384738, 0.149444],
    [0.322962, 0.200056, 0.227223, 0.249759],
    [0.697917, 0, 0.302083, 0, 0, 0],
]
# torchjd 0.18.0, UPGradWeighting(projector=QuadprogProjector(norm_eps=0, reg_eps=0))
UPGRAD = [
    [1.111111, 0.789474],
    [0.571429, 0.507937, 0.333333],
    [0.645661, 0.425988, 0.505551, 0.535776],
    [1 / 6] * 6,
]
# torchjd 0.18.0, CAGradWeighting(c=0.5, norm_eps=1e-9), by clarabel 0.11.1: good to 1e-4 or so
CAGRAD = [
    [0.704124, 0.5],
    [0.63153, 0.542663, 0.333333],
    [0.449907, 0.278681, 0.316541, 0.347936],
    [6.417026, 0.166667, 0.166668, 0.166667, 0.166667, 0.166667],
]

WEIGHTINGS = {
    "min_norm": moo.min_norm_weights,
    "frank_wolfe": moo.frank_wolfe_weights,
    "mean": moo.mean_weights,
    "random": partial(moo.random_weights, key=jax.random.key(0)),
    "upgrad": moo.upgrad_weights,
    "cagrad": moo.cagrad_weights,
    "normalised": moo.gradient_normalised(moo.min_norm_weights),
    "floor": moo.with_floor(moo.min_norm_weights, 0.5),
}
JITTED = {name: jax.jit(weighting) for name, weighting in WEIGHTINGS.items()}
batched_min_norm = jax.jit(jax.vmap(moo.min_norm_weights))
every = pytest.mark.parametrize("name", WEIGHTINGS)


def weights(name, gram) -> np.ndarray:
    """In float32, or in float64 where that is enabled; returned in float64."""
    return np.asarray(JITTED[name](jnp.asarray(gram, float)), np.float64)


def squared(gram, w) -> float:
    return w @ gram @ w


def random_gradients(seed, k=4, d=7) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(k, d))


@st.composite
def awkward_grams(draw):
    """Of small integers, so often singular, with equal, opposite and zero rows; scales apart."""
    k, d = draw(st.sampled_from([1, 3, 4])), draw(st.integers(1, 6))
    rows = draw(arrays(np.int64, (k, d), elements=st.integers(-3, 3)))
    powers = draw(
        st.sampled_from([0, 1, 4]).flatmap(
            lambda p: st.lists(st.integers(-p, p), min_size=k, max_size=k)
        )
    )
    rows = rows * 10.0 ** np.array(powers)[:, None]
    return np.float64(np.float32(rows @ rows.T))


def assert_is_min_norm(gram, w, rtol):
    """(G w)_k >= w^T G w, with room for rounding of each row's terms, and w on the simplex."""
    assert (w >= 0).all()
    assert w.sum() == pytest.approx(1, rel=1e-6)
    norms = np.sqrt(np.diag(gram))
    room = rtol * (np.abs(gram) @ w + norms * norms.min())
    assert (gram @ w >= squared(gram, w) - room).all()


# ---------------------------------------------------------------- min-norm weights


@pytest.mark.parametrize(
    ("gram", "expected"),
    [
        ([[1, 2], [2, 9]], [1, 0]),  # the first is the shortest point of the segment
        ([[4, 2], [2, 1]], [0, 1]),  # the second
        ([[1, 0], [0, 3]], [0.75, 0.25]),  # the foot of the perpendicular
        ([[2, -1], [-1, 1]], [0.4, 0.6]),
    ],
)
def test_two_gradients_have_their_closed_form(gram, expected):
    # Sener & Koltun 2018, Alg. 1: clip(<g_2 - g_1, g_2> / ||g_1 - g_2||^2, 0, 1)
    (a, b), (_, c) = gram
    np.testing.assert_allclose(np.clip((c - b) / (a - 2 * b + c), 0, 1), expected[0])
    np.testing.assert_allclose(weights("min_norm", gram), expected, atol=1e-6)


@settings(max_examples=100, deadline=None)
@given(awkward_grams())
@example(np.zeros((3, 3)))
def test_min_norm_weights_meet_the_conditions_of_optimality(gram):
    assert_is_min_norm(gram, weights("min_norm", gram), 2e-6)


@pytest.mark.parametrize("dimension", [3, 12, 40])
@pytest.mark.parametrize("k", [8, 16])
def test_many_objectives_meet_them_too_and_in_a_batch(k, dimension):
    rng = np.random.default_rng(k + dimension)
    rows = rng.normal(size=(40, k, dimension)) * 10 ** rng.uniform(-4, 4, (40, k, 1))
    grams = (rows @ rows.transpose(0, 2, 1)).astype(np.float32)
    batch = np.asarray(batched_min_norm(grams), np.float64)
    for gram, w in zip(np.float64(grams), batch, strict=True):
        assert_is_min_norm(gram, w, 2e-6)


def test_float64_is_used_where_enabled():
    with jax.enable_x64(True):
        for seed in range(20):
            gradients = random_gradients(seed, d=2 + seed % 4)  # singular ones too
            gram = gradients @ gradients.T
            assert_is_min_norm(gram, weights("min_norm", gram), 4e-15)
        np.testing.assert_allclose(weights("upgrad", GRAMS[2]), UPGRAD[2], atol=6e-7)


@pytest.mark.parametrize("seed", range(4))
def test_no_point_of_a_grid_on_the_simplex_is_shorter(seed):
    gradients = random_gradients(seed, 3, 2 + seed)
    gram, n = gradients @ gradients.T, 100
    grid = [(i, j, n - i - j) for i, j in itertools.product(range(n + 1), repeat=2) if i + j <= n]
    lengths = [squared(gram, np.array(point) / n) for point in grid]
    exact = squared(gram, weights("min_norm", gram))
    assert exact <= min(lengths) + 1e-6
    assert min(lengths) - exact < 1e-3 * np.diag(gram).max()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["min_norm", "upgrad", "cagrad", "frank_wolfe"])
def test_weights_follow_a_permutation_of_the_objectives(name, seed):
    gradients = random_gradients(seed)
    order = np.random.default_rng(seed).permutation(4)
    gram = gradients @ gradients.T
    permuted = weights(name, gram[np.ix_(order, order)])
    np.testing.assert_allclose(permuted, weights(name, gram)[order], atol=2e-5)


@pytest.mark.parametrize("name", ["min_norm", "upgrad", "cagrad", "frank_wolfe"])
@pytest.mark.parametrize("scale", [2.0**-40, 2.0**40])
def test_weights_do_not_depend_on_the_scale_of_all(name, scale):
    for gram in GRAMS:
        np.testing.assert_array_equal(weights(name, np.array(gram) * scale), weights(name, gram))


def test_common_descent_lowers_every_loss():
    centres = jnp.asarray(random_gradients(3, 4, 6), jnp.float32)
    x = jnp.full(6, 3.0)

    def losses(x):
        return jnp.sum(jnp.square(x[None] - centres), axis=1) * jnp.array([1.0, 10, 0.1, 3])

    gradients = jax.jacrev(losses)(x)
    direction = moo.combine(gradients, JITTED["min_norm"](moo.gram(gradients)))
    assert (losses(x - 1e-2 * direction) < losses(x)).all()


# ---------------------------------------------------------------- degenerate gradients


@every
@settings(max_examples=25, deadline=None)
@given(gram=awkward_grams())
@example(gram=np.zeros((3, 3)))
@example(gram=np.ones((4, 4)))
@example(gram=np.array([[1.0, -1], [-1, 1]]))
@example(gram=np.array([[5.0]]))
@example(gram=np.diag([1e-8, 1e8]))
@example(gram=np.diag([1e-30, 1.0, 1e30]))
def test_weights_are_finite_and_none_is_negative(name, gram):
    w = weights(name, gram)
    assert np.isfinite(w).all()
    assert (w >= 0).all()
    assert w.sum() > 0


@pytest.mark.parametrize("name", ["min_norm", "mean", "upgrad", "random", "frank_wolfe"])
def test_one_objective_is_plain_descent(name):
    np.testing.assert_array_equal(weights(name, [[7.0]]), [1])


def test_a_zero_gradient_takes_all_the_weight():
    np.testing.assert_array_equal(weights("min_norm", np.diag([1.0, 0, 2])), [0, 1, 0])
    np.testing.assert_array_equal(weights("min_norm", np.diag([0.0, 0, 2])), [0.5, 0.5, 0])


@pytest.mark.parametrize("name", ["min_norm", "upgrad", "cagrad", "frank_wolfe"])
def test_equal_gradients_give_that_gradient(name):
    gradients = np.tile(random_gradients(0, 1), (3, 1))
    w = weights(name, gradients @ gradients.T)
    np.testing.assert_allclose(w @ gradients / w.sum(), gradients[0], rtol=1e-6)


def test_opposite_gradients_cancel():
    for longer in (1.0, 3.0, 1e4):
        gram = np.outer([1, -longer], [1, -longer])
        w = weights("min_norm", gram)
        assert squared(gram, w) < 1e-6
        np.testing.assert_allclose(w, np.array([longer, 1]) / (1 + longer), rtol=1e-6)
        w = weights("upgrad", gram)
        assert squared(gram, w) < 1e-6 * longer**2


def test_gradients_on_a_line_give_the_shortest():
    lengths = np.array([3.0, 0.5, 1.0, 2.0])
    w = weights("min_norm", np.outer(lengths, lengths))
    np.testing.assert_allclose(w, [0, 1, 0, 0], atol=1e-6)


# ---------------------------------------------------------------- other weightings and references


@pytest.mark.parametrize(
    ("name", "expected", "rtol"),
    [("min_norm", MIN_NORM, 2e-6), ("upgrad", UPGRAD, 2e-6), ("cagrad", CAGRAD, 2e-4)],
)
@pytest.mark.parametrize("case", range(len(GRAMS)))
def test_weights_agree_with_independent_solvers(name, expected, rtol, case):
    np.testing.assert_allclose(weights(name, GRAMS[case]), expected[case], rtol=rtol, atol=1e-6)


@pytest.mark.parametrize("case", range(len(GRAMS)))
def test_frank_wolfe_approaches_the_exact_weights(case):
    weighting = jax.jit(partial(moo.frank_wolfe_weights, iterations=5000))
    w = weighting(jnp.array(GRAMS[case], float))
    np.testing.assert_allclose(w, MIN_NORM[case], atol=1e-3)


@settings(max_examples=50, deadline=None)
@given(awkward_grams())
def test_frank_wolfe_keeps_its_bound(gram):
    slow, exact = (squared(gram, weights(name, gram)) for name in ("frank_wolfe", "min_norm"))
    largest = np.diag(gram).max()
    assert -1e-6 * largest <= slow - exact <= 16 / 250 * largest


@settings(max_examples=100, deadline=None)
@given(awkward_grams())
def test_upgrad_conflicts_with_no_objective(gram):
    w = weights("upgrad", gram)
    assert (gram @ w >= -2e-6 * np.abs(gram) @ w).all()


def test_upgrad_is_the_mean_where_nothing_conflicts():
    np.testing.assert_array_equal(weights("upgrad", np.eye(4) + 0.3), np.full(4, 0.25))


def test_cagrad_without_a_ball_is_the_mean():
    w = jax.jit(partial(moo.cagrad_weights, c=0.0))(jnp.array(GRAMS[2], float))
    np.testing.assert_allclose(w, 1 / 4, rtol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_cagrad_serves_the_worst_off_best_within_its_ball(seed):
    gradients = random_gradients(seed, 3, 4)
    mean = gradients.mean(axis=0)
    radius = 0.5 * np.linalg.norm(mean)
    update = weights("cagrad", gradients @ gradients.T) @ gradients
    assert np.linalg.norm(update - mean) == pytest.approx(radius, rel=1e-5)
    steps = np.random.default_rng(seed).normal(size=(5000, 4))
    others = mean + radius * steps / np.linalg.norm(steps, axis=1, keepdims=True)
    rival = (others @ gradients.T).min(axis=1).max()
    worst = (gradients @ update).min()
    assert rival < worst + 1e-5
    assert worst - rival < 0.1 * radius  # the sample is dense enough to have found a better one


def test_random_weights_are_one_hot_and_uniform():
    draws = np.asarray(
        jax.vmap(lambda key: moo.random_weights(jnp.eye(4), key=key))(
            jax.random.split(jax.random.key(5), 4000)
        )
    )
    assert set(np.unique(draws)) == {0, 1}
    assert (draws.sum(axis=1) == 1).all()
    np.testing.assert_allclose(draws.mean(axis=0), 0.25, atol=4 * (0.25 * 0.75 / 4000) ** 0.5)


# ---------------------------------------------------------------- weightings from weightings


def combined(weighting, gradients) -> np.ndarray:
    gradients = jnp.asarray(gradients, jnp.float32)
    return np.asarray(moo.combine(gradients, weighting(moo.gram(gradients))))


@pytest.mark.parametrize("name", ["min_norm", "upgrad", "cagrad", "mean"])
def test_rescaled_is_the_weighting_of_scaled_gradients(name):
    gradients, scale = random_gradients(1, 4), jnp.array([1.0, 100.0, 0.01, 3.0])
    expected = combined(JITTED[name], scale[:, None] * gradients)
    got = combined(moo.rescaled(JITTED[name], scale), gradients)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["min_norm", "upgrad", "cagrad", "mean"])
def test_normalised_gradients_forget_the_scale_of_each_objective(name):
    gradients = random_gradients(2, 4)
    weighting = moo.gradient_normalised(JITTED[name])
    expected = combined(weighting, gradients)
    got = combined(weighting, gradients * np.array([1, 1e3, 1, 1e-3])[:, None])
    np.testing.assert_allclose(got, expected, atol=2e-5)


def test_a_floor_keeps_each_weight_above_its_share_and_the_sum():
    for gram in GRAMS:
        w = weights("floor", gram)
        assert (w >= 0.5 / len(gram) - 1e-7).all()
        assert w.sum() == pytest.approx(1, rel=1e-6)
    np.testing.assert_allclose(
        moo.with_floor(lambda g: jnp.array([4.0, 0]), 0.25)(None), [3.5, 0.5]
    )


def test_normalised_weights_sum_to_one():
    np.testing.assert_allclose(moo.normalised(jnp.array([1.0, 3.0])), [0.25, 0.75])
    np.testing.assert_allclose(moo.normalised(jnp.zeros(4)), 0.25)


# ---------------------------------------------------------------- pytrees and optax


def nested(seed, k=3) -> dict:
    rng = np.random.default_rng(seed)
    shapes = {"a": {"kernel": (3, 3, 2, 4), "bias": (4,)}, "b": [(), (5,)]}

    def draw(shape):
        return jnp.asarray(rng.normal(size=(k, *shape)), jnp.float32)

    return jax.tree.map(draw, shapes, is_leaf=lambda node: isinstance(node, tuple))


def test_a_nested_pytree_counts_as_one_vector():
    stacked = nested(0)
    flat = np.concatenate([np.reshape(leaf, (3, -1)) for leaf in jax.tree.leaves(stacked)], axis=1)
    np.testing.assert_allclose(moo.gram(stacked), flat @ flat.T, rtol=1e-5, atol=1e-5)
    w = jnp.array([0.2, 0.5, 0.3])
    total = moo.combine(stacked, w)
    assert jax.tree.structure(total) == jax.tree.structure(stacked)
    assert total["a"]["kernel"].shape == (3, 3, 2, 4)
    flat_total = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(total)])
    np.testing.assert_allclose(flat_total, np.asarray(w) @ flat, rtol=1e-5, atol=1e-6)


def test_short_dtypes_are_summed_in_float32_and_kept():
    stacked = {"a": jnp.ones((2, 10_001), jnp.bfloat16), "b": jnp.ones((2, 2), jnp.float16)}
    gram = moo.gram(stacked)
    assert gram.dtype == jnp.float32
    np.testing.assert_array_equal(gram, 10_003)
    total = moo.combine(stacked, jnp.array([0.25, 0.75]))
    assert jax.tree.map(lambda leaf: leaf.dtype, total) == {"a": jnp.bfloat16, "b": jnp.float16}


@pytest.mark.parametrize(
    "stacked",
    [{"a": jnp.ones((3, 2)), "b": jnp.ones((4, 2))}, {"a": jnp.ones(3), "b": jnp.ones(())}, {}],
)
def test_leaves_must_share_the_number_of_objectives(stacked):
    rule = moo.aggregate(moo.mean_weights)
    state = rule.init(stacked)
    with pytest.raises(
        ValueError, match=r"^every leaf must be \[K, ...\] .* sizes of axis 0: \[.*\]$"
    ):
        rule.update(stacked, state)


@pytest.mark.parametrize("name", ["min_norm", "mean", "upgrad", "cagrad", "normalised"])
def test_aggregation_comes_first_in_a_chain_with_adam_and_compiles_once(name):
    targets, traces = nested(1), []

    def losses(params):
        distances = jax.tree.map(lambda p, t: jnp.square(p[None] - t), params, targets)
        return sum(jnp.sum(d.reshape(3, -1), axis=1) for d in jax.tree.leaves(distances))

    rule = optax.chain(moo.aggregate(WEIGHTINGS[name]), optax.adam(0.05))

    @jax.jit
    def step(params, state):
        traces.append(name)
        gradients = jax.jacrev(losses)(params)
        with jax.numpy_dtype_promotion("standard"):  # Adam of optax needs it
            updates, state = rule.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    params = start = jax.tree.map(lambda leaf: jnp.full(leaf.shape[1:], 4.0, leaf.dtype), targets)
    state = rule.init(params)
    for _ in range(20):
        params, state = step(params, state)
    assert len(traces) == 1
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, start)
    assert (losses(params) < losses(start)).all()


def test_a_weighting_with_a_key_is_built_in_the_step():
    stacked = {"w": jnp.eye(3)}

    @jax.jit
    def update(key):
        rule = moo.aggregate(partial(moo.random_weights, key=key))
        return rule.update(stacked, rule.init(None))[0]["w"]

    drawn = {int(jnp.argmax(update(jax.random.key(k)))) for k in range(20)}
    assert drawn == {0, 1, 2}
