"""Claims about fixed-point formats: they keep sums exact, use the bits, and are checked."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

import jvrc
from jvrc.export.format_fitting import Sample, fit_format
from jvrc.integer import fixed_point, hyper_synthesis
from jvrc.integer.bounds import layer_specs
from jvrc.model import transforms

GOLDEN = sorted((Path(__file__).parents[1] / "golden" / "v1").glob("*.safetensors"))
WITHOUT_CONTEXT = ["tiny-mean", "tiny-linear", "tiny-scale"]


def with_layer(found, name, **changes):
    """The format with other exponents or shifts of one layer."""
    return found._replace(layers=found.layers | {name: found.layers[name]._replace(**changes)})


def quantise(model, found):
    return fixed_point.quantise(model.config, model.params, found)


# -- why no machine can disagree


def input_limits(name, network):
    """The largest magnitudes of the inputs of a hidden layer's successor: a number, or [I,1]."""
    before = {"h_s/deconv1": network.h_s.deconv0, "h_s/conv2": network.h_s.deconv1}.get(name)
    if before is None or before.low is None:
        return 255
    return np.maximum(np.abs(before.low), np.abs(before.high)).astype(np.int64)[:, None]


def sums_of(name, kernel, limits):
    """The largest float32 sums of a layer for any input, of each product: int64 [products,O].

    kernel: magnitudes. limits: of the inputs of the last two layers of h_s. Independent of
    jvrc.integer.bounds: written from FORMAT.md.
    """
    phases = np.stack([kernel[r::2, s::2].sum((0, 1)) for r in (0, 1) for s in (0, 1)])
    if name == "h_s/deconv0":  # products of eight channels each, added in int32
        runs = np.split(phases, range(8, kernel.shape[2], 8), axis=1)
        return 2047 * np.stack([run.sum(1).max(0) for run in runs])
    if name == "h_s/deconv1":
        return (limits * phases).sum(1).max(0)[None]
    if name == "h_s/conv2":
        return (limits * kernel).sum((0, 1, 2))[None]
    if name == "context/conv":  # rows of five, five and two taps, added in int32
        rows = (slice(5), slice(5, 10), slice(10, 12))
        return 1023 * np.stack([kernel[row].sum((0, 1)) for row in rows])
    if name == "entropy_parameters/conv0":  # psi and the context's features, added in int32
        return 1023 * np.stack([half[0, 0].sum(0) for half in np.split(kernel, 2, axis=2)])
    return 1023 * kernel.sum((0, 1, 2))[None]


def float32_and_int32_sums(network):
    """For each layer (name, largest float32 sums [O], largest int32 sums [O]), for any input."""
    layers = {f"h_s/{name}": layer for name, layer in network.h_s._asdict().items()}
    if network.context:
        behind = network.context.entropy_parameters._asdict()
        layers |= {f"entropy_parameters/{name}": layer for name, layer in behind.items()}
        layers["context/conv"] = network.context.conv
    for name, layer in layers.items():
        kernel = np.abs(layer.kernel.astype(np.int64))
        sums = sums_of(name, kernel, input_limits(name, network))
        added = np.abs(layer.bias.astype(np.int64)) + (1 << layer.shift.astype(np.int64) >> 1)
        added = np.max(np.atleast_2d(added), axis=0)
        in_int32 = name in ("h_s/deconv0", "context/conv", "entropy_parameters/conv0")
        yield name, sums.max(0) + (0 if in_int32 else added), sums.sum(0) + added


@pytest.mark.parametrize("path", [*GOLDEN, *jvrc.models().values()], ids=lambda p: p.stem)
def test_no_partial_sum_can_leave_the_integers_of_float32_or_int32(path):
    """The largest sums that any input gives, output by output, from the weights alone."""
    model = jvrc.load(path)
    names = []
    for name, largest, together in float32_and_int32_sums(model.network):
        assert np.all(largest <= 2**24), name
        assert np.all(together < 2**31), name
        names.append(name)
    assert len(names) == len(layer_specs(model.config))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda p: p.stem)
def test_the_bits_of_h_s_are_used(path):
    model = jvrc.load(path)
    for name, largest, _ in float32_and_int32_sums(model.network):
        assert not name.startswith("h_s") or largest.max() > 2**22, name


# -- the choice of a format


@pytest.mark.parametrize("name", ["tiny-mean", "tiny-scale"])
@pytest.mark.parametrize("layer", ["deconv0", "deconv1"])
def test_a_silent_channel_stays_silent(golden, name, layer):
    """Its range of zero would ask for an infinitely fine unit."""
    model = golden(name)
    bias = model.params["h_s"][layer]["bias"].copy()
    bias[2] = -1000
    h_s = model.params["h_s"] | {layer: model.params["h_s"][layer] | {"bias": bias}}
    z_hat = np.random.default_rng(0).integers(-9, 10, (2, 2, 6))
    found = fit_format(model.config, {"h_s": h_s}, [Sample(z_hat, None, 1.0)], (1.0, 16.0))
    network = fixed_point.quantise(model.config, {"h_s": h_s}, found)
    log_sigma, _ = hyper_synthesis.synthesise(model.config, network, z_hat[None])
    sigma, _ = transforms.h_s(model.config, h_s, z_hat[None] / np.float32(16))
    assert np.abs(log_sigma / 128 - np.log2(sigma)).max() < 0.1


def activation_ranges(model):
    """The largest magnitudes that the model's units can hold, behind the layers of h_s."""
    layers = model.fixed_point_format.layers
    names = ("h_s/deconv0", "h_s/deconv1")
    return {name: 2.0 ** layers[name].exponent.astype(float) * 255 for name in names}


def with_conv2(model, **arrays):
    """Parameters with another last layer of h_s."""
    h_s = model.params["h_s"]
    return {"h_s": h_s | {"conv2": h_s["conv2"] | arrays}}


def test_a_mean_too_large_for_its_unit_gets_a_larger_one(golden):
    """A mean 2**25 times as large has the same integers before the shift, which it then lacks."""
    model = golden("tiny-mean")
    config, gain = model.config, np.ones(2 * model.config.M, np.float32)
    gain[config.M] = 2.0**25
    params = with_conv2(model, **{k: v * gain for k, v in model.params["h_s"]["conv2"].items()})
    found = fixed_point.choose_format(config, params, activation_ranges(model))
    network = fixed_point.quantise(config, params, found)
    assert network.mu_exponent[0] > hyper_synthesis.MU_EXPONENT
    assert np.all(network.mu_exponent[1:] == hyper_synthesis.MU_EXPONENT)
    z_hat = np.random.default_rng(0).integers(-20, 21, (1, 2, 3, config.N))

    def means(network):
        mu = hyper_synthesis.synthesise(config, network, z_hat)[1]
        return np.array(hyper_synthesis.mu_of(network, mu))

    mu, before = means(network), means(model.network)
    mu[..., 0] /= 2.0**25
    np.testing.assert_array_equal(mu[..., 1:], before[..., 1:])
    assert np.abs(mu - before).max() <= 2.0 ** (hyper_synthesis.MU_EXPONENT - 1)


@pytest.mark.parametrize("size", [1, 5])
def test_h_s_may_end_in_a_kernel_of_another_odd_size(golden, size):
    model = golden("tiny-mean")
    kernel = model.params["h_s"]["conv2"]["kernel"]
    other = np.random.default_rng(size).normal(0, 0.5 / size, (size, size, *kernel.shape[2:]))
    params = with_conv2(model, kernel=other.astype(np.float16).astype(np.float32))
    z_hat = np.random.default_rng(0).integers(-20, 21, (1, 2, 3, model.config.N))
    found = fit_format(model.config, params, [Sample(z_hat[0], None, 1.0)], (1.0, 16.0))
    network = fixed_point.quantise(model.config, params, found)
    log_sigma, mu = hyper_synthesis.synthesise(model.config, network, z_hat)
    sigma, expected = transforms.h_s(model.config, params["h_s"], z_hat / np.float32(16))
    near = (log_sigma / 128, np.log2(sigma)), (hyper_synthesis.mu_of(network, mu), expected)
    for found, wanted in near:
        assert np.abs(found - wanted).max() < 0.05 * np.ptp(wanted)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_weights_that_fit_no_integers_are_refused(golden, value):
    model = golden("tiny-mean")
    kernel = model.params["h_s"]["conv2"]["kernel"].copy()
    kernel[0, 0, 0, 0] = value
    params = with_conv2(model, kernel=kernel)
    with pytest.raises(ValueError, match="h_s/conv2 must have weights whose sums fit 24 bits"):
        fixed_point.choose_format(model.config, params, activation_ranges(model))


# -- what is refused


@pytest.mark.parametrize(
    ("name", "layer"), [("tiny-mean", "h_s/deconv1"), ("tiny-context", "entropy_parameters/conv1")]
)
def test_larger_shifts_than_the_sums_allow_are_refused(golden, name, layer):
    model = golden(name)
    found = model.fixed_point_format
    finer = with_layer(found, layer, shift=found.layers[layer].shift + np.int8(1))
    with pytest.raises(ValueError, match=f"{layer} must keep every sum within 16777216"):
        quantise(model, finer)


@pytest.mark.parametrize("name", WITHOUT_CONTEXT)
def test_a_sigma_in_another_unit_is_refused(golden, name):
    model = golden(name)
    exponent = model.fixed_point_format.layers["h_s/conv2"].exponent.copy()
    exponent[3] += 1
    with pytest.raises(ValueError, match="exponents of sigma must be (0|-9)"):
        quantise(model, with_layer(model.fixed_point_format, "h_s/conv2", exponent=exponent))


@pytest.mark.parametrize(
    "arrays",
    [
        {"kernel": np.ones((5, 3, 15, 20), np.float32)},
        {"kernel": np.ones((2, 2, 15, 20), np.float32)},
        {"kernel": np.ones((3, 3, 15, 21), np.float32)},
        {"bias": np.zeros(1, np.float32)},
    ],
)
def test_parameters_of_another_shape_are_refused(golden, arrays):
    model = golden("tiny-mean")
    with pytest.raises(ValueError, match="h_s/conv2: wrong shape"):
        fixed_point.quantise(model.config, with_conv2(model, **arrays), model.fixed_point_format)


@pytest.mark.parametrize(
    ("layer", "changes", "message"),
    [
        ("h_s/conv2", {"exponent": np.full(20, -128, np.int8)}, "h_s/conv2 must be within 100"),
        ("h_s/deconv0", {"shift": np.ones(1, np.int8)}, "h_s/deconv0 must be two arrays int8"),
        ("h_s/deconv1", {"shift": np.ones(15, np.float32)}, "h_s/deconv1 must be two arrays int8"),
    ],
)
def test_formats_of_another_shape_or_type_are_refused(golden, layer, changes, message):
    model = golden("tiny-mean")
    with pytest.raises(ValueError, match=message):
        quantise(model, with_layer(model.fixed_point_format, layer, **changes))


def test_formats_of_other_layers_are_refused(golden):
    model, other = golden("tiny-mean"), golden("tiny-context")
    for wrong in (model.fixed_point_format._replace(layers={}), other.fixed_point_format):
        with pytest.raises(ValueError, match="must have the layers"):
            quantise(model, wrong)


def test_formats_of_a_context_that_do_not_fit_are_refused(golden):
    model = golden("tiny-context")
    found, last = model.fixed_point_format, "entropy_parameters/conv2"
    mu = np.append(np.zeros(model.config.M), np.ones(model.config.M)).astype(np.int8)
    exponent, shift, bias = found.layers[last].exponent, found.latent_shift, found.context_bias
    cases = [
        (found._replace(latent_shift=shift + np.int8(30)), "latent shift must be"),
        (found._replace(latent_shift=shift.astype(float)), "latent shift must be"),
        (with_layer(found, last, exponent=exponent + 30 * mu), "exponents of mu must be in"),
        (with_layer(found, last, exponent=exponent - 10 * mu), "exponents of mu must be in"),
        (found._replace(context_bias=None), "context's bias must be int32"),
        (found._replace(context_bias=bias.astype(np.int16)), "context's bias must be int32"),
        (found._replace(context_bias=np.full_like(bias, -(2**31))), "context/conv must keep"),
        (found._replace(context_bias=np.full_like(bias, 2**30)), "context/conv must keep"),
    ]
    for damaged, message in cases:
        with pytest.raises(ValueError, match=message):
            quantise(model, damaged)


# -- what the codec computes with


@pytest.mark.parametrize("name", ["tiny-mean", "tiny-context"])
def test_the_codec_never_computes_with_the_float_weights(golden, name, photo):
    model = golden(name)
    parts = {"h_s", "context", "entropy_parameters"} & set(model.params)
    doubled = {part: jax.tree.map(lambda a: 2 * a, model.params[part]) for part in parts}
    changed = dataclasses.replace(model, params=model.params | doubled)
    img = photo[:64, :64]
    found = [jvrc.compress(each, img, 2.0, patches=False) for each in (model, changed)]
    assert found[0] == found[1]
