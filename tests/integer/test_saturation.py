"""Claims about hidden layers of h_s that saturate at bounds of their own for each channel."""

import hashlib
from dataclasses import replace

import jax
import numpy as np
import pytest

import jvrc
from jvrc.export.format_fitting import Sample, fit_format
from jvrc.frozen.file import save_model
from jvrc.integer import fixed_point, hyper_synthesis
from jvrc.integer.bounds import HIDDEN_LAYERS
from jvrc.integer.network import SUM_MAX, HyperSynthesis, Layer, Network
from jvrc.model.config import config_of

hyper_layers = jax.jit(hyper_synthesis.hyper_layers, static_argnums=0)


def random_z(model, largest, shape=(2, 3)):
    """z^ int32 [h,w,N]."""
    size = (*shape, model.config.N)
    return np.random.default_rng(largest).integers(-largest, largest + 1, size, np.int32)


def evaluated(config, network, z_hat):
    """The last layer's output for one z^: int32 [4h,4w,2M]."""
    return np.asarray(hyper_layers(config, network, z_hat[None])[0])


def saturating(model, z_hat, kernel=None):
    """The model with bounds fitted to z^, and maybe another last kernel of h_s."""
    params = model.params
    if kernel is not None:
        h_s = params["h_s"]
        params = params | {"h_s": h_s | {"conv2": h_s["conv2"] | {"kernel": kernel}}}
    found = fit_format(model.config, params, [Sample(z_hat, None, 1.0)], (1, 16), saturate=True)
    network = fixed_point.quantise(model.config, params, found)
    return replace(model, params=params, fixed_point_format=found, network=network)


def with_bounds(found, name, low, high):
    """The format with other bounds of one layer."""
    bounds = {"low": np.asarray(low, np.int16), "high": np.asarray(high, np.int16)}
    return found._replace(layers=found.layers | {name: found.layers[name]._replace(**bounds)})


# -- closed forms


def layer_of(size, matrix, **bounds):
    """A layer that applies a matrix [I,O] to each input alone, without bias and shift."""
    kernel = np.zeros((size, size, *np.shape(matrix)), np.int16)
    kernel[size // 2, size // 2] = matrix
    none = np.zeros(kernel.shape[-1], np.int32)
    return Layer(kernel, none, none, **{k: np.array(v, np.int32) for k, v in bounds.items()})


def hand_made(first, second):
    """A network that shows (x0, x1, -x0) of its first hidden layer (x0, x1) at even positions."""
    h_s = HyperSynthesis(
        layer_of(5, np.eye(2), **first),
        layer_of(5, [[1, 0, -1], [0, 1, 0]], **second),
        layer_of(1, np.eye(3, 4)),
    )
    return Network(h_s, None, np.zeros(2, np.int32))


def shown(network, z_hat):
    """(x0, x1, -x0), where inputs were, for z^ [w,2]."""
    config = config_of("mbt2018-mean", N=2, M=2)
    return evaluated(config, network, np.array([z_hat], np.int32))[0, ::4, :3].tolist()


Z_HAT = [[-2000, 0], [-300, 15], [5, 40], [300, -7], [90, 2047]]


def test_the_first_layer_comes_out_at_its_bounds_beyond_them():
    network = hand_made({"low": [-2, 10], "high": [100, 20]}, {})
    # behind LeakyReLU x0 is -20, -3, 5, 300, 90; a second LeakyReLU makes -5 ... -90 of -x0 0 or -1
    assert shown(network, Z_HAT) == [
        [0, 10, 2],
        [0, 15, 2],
        [5, 20, 0],
        [100, 10, -1],
        [90, 20, -1],
    ]


def test_the_second_layer_comes_out_at_its_bounds_beyond_them():
    network = hand_made({}, {"low": [1, -255, -3], "high": [200, 30, 12]})
    assert shown(network, Z_HAT) == [[1, 0, 12], [1, 15, 3], [5, 30, 0], [200, 0, -3], [90, 30, -1]]


def test_where_no_input_arrives_the_bounds_hold_too():
    config = config_of("mbt2018-mean", N=2, M=2)
    network = hand_made({}, {"low": [3, -1, -9], "high": [9, 5, -2]})
    found = evaluated(config, network, np.zeros((1, 1, 2), np.int32))
    assert np.all(found == [3, 0, -2, 0])


# -- within the bounds nothing changes


@pytest.mark.parametrize("name", ["tiny-mean", "tiny-scale", "tiny-linear"])
def test_bounds_that_nothing_exceeds_change_nothing(golden, name):
    model = golden(name)
    widest = model.fixed_point_format
    for layer in HIDDEN_LAYERS:
        ends = np.full(widest.layers[layer].shift.shape, 255)
        widest = with_bounds(widest, layer, -ends, ends)
    network = fixed_point.quantise(model.config, model.params, widest)
    z_hat = random_z(model, 2047)
    found, expected = (evaluated(model.config, n, z_hat) for n in (network, model.network))
    np.testing.assert_array_equal(found, expected)


def test_the_second_layer_is_clipped_and_not_changed(golden):
    """Seen through a last layer that passes it on."""
    model = golden("tiny-mean")
    h_s, rng = model.network.h_s, np.random.default_rng(0)
    plain = model.network._replace(h_s=h_s._replace(conv2=layer_of(1, np.eye(15, 20))))
    low, high = np.sort(rng.integers(-9, 90, (2, 15)).astype(np.int32), axis=0)
    bounded = h_s.deconv1._replace(low=low, high=high)
    z_hat = random_z(model, 60)
    expected = evaluated(model.config, plain, z_hat)[..., :15]
    found = evaluated(model.config, plain._replace(h_s=plain.h_s._replace(deconv1=bounded)), z_hat)
    np.testing.assert_array_equal(found[..., :15], expected.clip(low, high))
    assert np.mean(expected != expected.clip(low, high)) > 0.1


# -- the same integers as the reference, and for ever


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_random_networks_with_bounds_give_the_references_integers(
    golden, size, seed, reference, tmp_path
):
    """Fitted to small z^ and evaluated on large ones, so that most channels saturate."""
    model = golden("tiny-mean")
    shape = (size, size, *model.params["h_s"]["conv2"]["kernel"].shape[2:])
    kernel = np.random.default_rng(seed).normal(0, 0.5 / size, shape).astype(np.float16)
    model = saturating(model, random_z(model, 20), kernel.astype(np.float32))
    path = tmp_path / "model.safetensors"
    model = save_model(model, path)
    weights = reference.load(path)
    for largest in (20, 200, hyper_synthesis.Z_MAX):
        z_hat = random_z(model, largest)
        found = evaluated(model.config, model.network, z_hat)
        theirs = reference.hyper_layers(*weights, z_hat.astype(np.int64))
        np.testing.assert_array_equal(found, theirs)


def test_a_small_network_with_bounds_gives_the_same_integers_for_ever(golden):
    model = golden("tiny-mean")
    found = model.fixed_point_format
    for name, count in zip(HIDDEN_LAYERS, (10, 15), strict=True):
        k = np.arange(count)
        found = with_bounds(found, name, -1 - k % 3, 20 + 5 * k)
    network = fixed_point.quantise(model.config, model.params, found)
    z_hat = (np.arange(4 * 3 * 6).reshape(4, 3, 6) * 37 % 401 - 200).astype(np.int32)
    out = evaluated(model.config, network, z_hat)
    assert hashlib.sha256(out.astype("<i4").tobytes()).hexdigest()[:16] == "703a3368770ff152"


# -- exactness


@pytest.mark.parametrize("size", [1, 3])
def test_no_sum_of_inputs_within_their_bounds_leaves_the_integers_of_float32(golden, size):
    model = golden("tiny-mean")
    kernel = model.params["h_s"]["conv2"]["kernel"]
    kernel = kernel if size == 3 else kernel[1:2, 1:2]
    model = saturating(model, random_z(model, 20), kernel)
    h_s = model.network.h_s
    layers = ((h_s.deconv0, h_s.deconv1, 2), (h_s.deconv1, h_s.conv2, 1))
    for before, layer, stride in layers:
        largest = np.maximum(np.abs(before.low), np.abs(before.high)).astype(np.int64)
        taps = np.abs(layer.kernel.astype(np.int64)) * largest[:, None]
        phases = [taps[r::stride, s::stride] for r in range(stride) for s in range(stride)]
        sums = np.max([phase.sum((0, 1, 2)) for phase in phases], 0)
        sums += np.abs(layer.bias) + (1 << layer.shift >> 1)
        assert SUM_MAX / 4 < sums.max() <= SUM_MAX


# -- bounds that are refused


@pytest.mark.parametrize(
    ("layer", "low", "high", "message"),
    [
        ("h_s/deconv0", np.full(10, 3), np.full(10, 2), "deconv0 must be low <= high, within 255"),
        ("h_s/deconv0", np.full(10, -256), np.full(10, 9), "must be low <= high, within 255"),
        ("h_s/deconv1", np.full(15, 0), np.full(15, 256), "must be low <= high, within 255"),
        ("h_s/deconv1", np.zeros(10), np.ones(10), r"deconv1 must be two arrays int16 \[15\]"),
        ("h_s/conv2", np.zeros(20), np.ones(20), "deconv1 may have bounds, not h_s/conv2"),
    ],
)
def test_bounds_that_cannot_be_are_refused(golden, layer, low, high, message):
    model = golden("tiny-mean")
    damaged = with_bounds(model.fixed_point_format, layer, low, high)
    with pytest.raises(ValueError, match=message):
        fixed_point.quantise(model.config, model.params, damaged)


@pytest.mark.parametrize("missing", ["low", "high"])
def test_one_bound_alone_is_refused(golden, missing):
    model, layer = golden("tiny-mean"), HIDDEN_LAYERS[0]
    found = with_bounds(model.fixed_point_format, layer, np.zeros(10), np.ones(10))
    alone = found.layers[layer]._replace(**{missing: None})
    found = found._replace(layers=found.layers | {layer: alone})
    with pytest.raises(ValueError, match="deconv0 must be two arrays int16"):
        fixed_point.quantise(model.config, model.params, found)


def test_wider_bounds_than_the_sums_allow_are_refused(golden):
    model = golden("tiny-mean")
    model = saturating(model, random_z(model, 20))
    ends = np.full(15, 255)
    found = with_bounds(model.fixed_point_format, HIDDEN_LAYERS[1], -ends, ends)
    with pytest.raises(ValueError, match="h_s/conv2 must keep every sum within 16777216"):
        fixed_point.quantise(model.config, model.params, found)


def test_a_file_keeps_the_bounds(golden, tmp_path):
    model = golden("tiny-mean")
    model = saturating(model, random_z(model, 20))
    saved = save_model(model, tmp_path / "model.safetensors")
    again = jvrc.load(tmp_path / "model.safetensors")
    assert again.model_id == saved.model_id
    for found in (saved, again):
        for a, b in zip(
            jax.tree.leaves(found.network), jax.tree.leaves(model.network), strict=True
        ):
            np.testing.assert_array_equal(a, b)
