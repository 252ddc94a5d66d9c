"""Claims about the models of 2018: their arithmetic and the layout of their parameters."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import by_name, shapes_of, trained_params

from jvrc.model import architectures, context, entropy_models, transforms, variable_rate
from jvrc.model.config import config_of

SIZES = {"N": 4, "M": 6}
QSTEP = np.array([0.7, 3.0], np.float32)
ARCHITECTURES = ("bmshj2018-hyperprior", "mbt2018-mean", "mbt2018")
# These run once: better compiled quickly than well.
quick_jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
forward = quick_jit(architectures.forward, static_argnums=0)

# Ours, our shape, CompressAI's, its shape, and the transposition from theirs to ours.
CONV, DECONV, SAME, SWAP = (2, 3, 1, 0), (2, 3, 0, 1), None, (1, 0)
TRANSFORMS = [
    ("g_a/conv0/kernel", (5, 5, 3, 4), "g_a.0.weight", (4, 3, 5, 5), CONV),
    ("g_a/conv0/bias", (4,), "g_a.0.bias", (4,), SAME),
    ("g_a/gdn0/beta", (4,), "g_a.1.beta", (4,), SAME),
    ("g_a/gdn0/gamma", (4, 4), "g_a.1.gamma", (4, 4), SWAP),
    ("g_a/conv1/kernel", (5, 5, 4, 4), "g_a.2.weight", (4, 4, 5, 5), CONV),
    ("g_a/conv1/bias", (4,), "g_a.2.bias", (4,), SAME),
    ("g_a/gdn1/beta", (4,), "g_a.3.beta", (4,), SAME),
    ("g_a/gdn1/gamma", (4, 4), "g_a.3.gamma", (4, 4), SWAP),
    ("g_a/conv2/kernel", (5, 5, 4, 4), "g_a.4.weight", (4, 4, 5, 5), CONV),
    ("g_a/conv2/bias", (4,), "g_a.4.bias", (4,), SAME),
    ("g_a/gdn2/beta", (4,), "g_a.5.beta", (4,), SAME),
    ("g_a/gdn2/gamma", (4, 4), "g_a.5.gamma", (4, 4), SWAP),
    ("g_a/conv3/kernel", (5, 5, 4, 6), "g_a.6.weight", (6, 4, 5, 5), CONV),
    ("g_a/conv3/bias", (6,), "g_a.6.bias", (6,), SAME),
    ("g_s/deconv0/kernel", (5, 5, 6, 4), "g_s.0.weight", (6, 4, 5, 5), DECONV),
    ("g_s/deconv0/bias", (4,), "g_s.0.bias", (4,), SAME),
    ("g_s/igdn0/beta", (4,), "g_s.1.beta", (4,), SAME),
    ("g_s/igdn0/gamma", (4, 4), "g_s.1.gamma", (4, 4), SWAP),
    ("g_s/deconv1/kernel", (5, 5, 4, 4), "g_s.2.weight", (4, 4, 5, 5), DECONV),
    ("g_s/deconv1/bias", (4,), "g_s.2.bias", (4,), SAME),
    ("g_s/igdn1/beta", (4,), "g_s.3.beta", (4,), SAME),
    ("g_s/igdn1/gamma", (4, 4), "g_s.3.gamma", (4, 4), SWAP),
    ("g_s/deconv2/kernel", (5, 5, 4, 4), "g_s.4.weight", (4, 4, 5, 5), DECONV),
    ("g_s/deconv2/bias", (4,), "g_s.4.bias", (4,), SAME),
    ("g_s/igdn2/beta", (4,), "g_s.5.beta", (4,), SAME),
    ("g_s/igdn2/gamma", (4, 4), "g_s.5.gamma", (4, 4), SWAP),
    ("g_s/deconv3/kernel", (5, 5, 4, 3), "g_s.6.weight", (4, 3, 5, 5), DECONV),
    ("g_s/deconv3/bias", (3,), "g_s.6.bias", (3,), SAME),
    ("h_a/conv0/kernel", (3, 3, 6, 4), "h_a.0.weight", (4, 6, 3, 3), CONV),
    ("h_a/conv0/bias", (4,), "h_a.0.bias", (4,), SAME),
    ("h_a/conv1/kernel", (5, 5, 4, 4), "h_a.2.weight", (4, 4, 5, 5), CONV),
    ("h_a/conv1/bias", (4,), "h_a.2.bias", (4,), SAME),
    ("h_a/conv2/kernel", (5, 5, 4, 4), "h_a.4.weight", (4, 4, 5, 5), CONV),
    ("h_a/conv2/bias", (4,), "h_a.4.bias", (4,), SAME),
]
SCALE_H_S = [
    ("h_s/deconv0/kernel", (5, 5, 4, 4), "h_s.0.weight", (4, 4, 5, 5), DECONV),
    ("h_s/deconv0/bias", (4,), "h_s.0.bias", (4,), SAME),
    ("h_s/deconv1/kernel", (5, 5, 4, 4), "h_s.2.weight", (4, 4, 5, 5), DECONV),
    ("h_s/deconv1/bias", (4,), "h_s.2.bias", (4,), SAME),
    ("h_s/conv2/kernel", (3, 3, 4, 6), "h_s.4.weight", (6, 4, 3, 3), CONV),
    ("h_s/conv2/bias", (6,), "h_s.4.bias", (6,), SAME),
]
MEAN_H_S = [  # M -> 3 M / 2 -> 2 M, and of these first sigma, then mu, as `chunk` there
    ("h_s/deconv0/kernel", (5, 5, 4, 6), "h_s.0.weight", (4, 6, 5, 5), DECONV),
    ("h_s/deconv0/bias", (6,), "h_s.0.bias", (6,), SAME),
    ("h_s/deconv1/kernel", (5, 5, 6, 9), "h_s.2.weight", (6, 9, 5, 5), DECONV),
    ("h_s/deconv1/bias", (9,), "h_s.2.bias", (9,), SAME),
    ("h_s/conv2/kernel", (3, 3, 9, 12), "h_s.4.weight", (12, 9, 3, 3), CONV),
    ("h_s/conv2/bias", (12,), "h_s.4.bias", (12,), SAME),
]
CONTEXT = {  # the 12 taps that the mask leaves of CompressAI's [2M,M,5,5]: see test_context.py
    "context/conv/kernel": (12, 6, 12),
    "context/conv/bias": (12,),
    "context/step/kernel": (1, 12),
    "context/step/bias": (12,),
}
PARAMETERS = [
    row
    for i, j, (in_, out) in ((0, 0, (24, 20)), (1, 2, (20, 16)), (2, 4, (16, 12)))
    for name, theirs in ((f"entropy_parameters/conv{i}", f"entropy_parameters.{j}"),)
    for row in (
        (f"{name}/kernel", (1, 1, in_, out), f"{theirs}.weight", (out, in_, 1, 1), CONV),
        (f"{name}/bias", (out,), f"{theirs}.bias", (out,), SAME),
    )
]
BOTTLENECK = [
    ("bottleneck/matrix0", (4, 3, 1), "entropy_bottleneck._matrix0", (4, 3, 1), SAME),
    ("bottleneck/bias0", (4, 3, 1), "entropy_bottleneck._bias0", (4, 3, 1), SAME),
    ("bottleneck/factor0", (4, 3, 1), "entropy_bottleneck._factor0", (4, 3, 1), SAME),
    ("bottleneck/matrix1", (4, 3, 3), "entropy_bottleneck._matrix1", (4, 3, 3), SAME),
    ("bottleneck/bias1", (4, 3, 1), "entropy_bottleneck._bias1", (4, 3, 1), SAME),
    ("bottleneck/factor1", (4, 3, 1), "entropy_bottleneck._factor1", (4, 3, 1), SAME),
    ("bottleneck/matrix2", (4, 3, 3), "entropy_bottleneck._matrix2", (4, 3, 3), SAME),
    ("bottleneck/bias2", (4, 3, 1), "entropy_bottleneck._bias2", (4, 3, 1), SAME),
    ("bottleneck/factor2", (4, 3, 1), "entropy_bottleneck._factor2", (4, 3, 1), SAME),
    ("bottleneck/matrix3", (4, 3, 3), "entropy_bottleneck._matrix3", (4, 3, 3), SAME),
    ("bottleneck/bias3", (4, 3, 1), "entropy_bottleneck._bias3", (4, 3, 1), SAME),
    ("bottleneck/factor3", (4, 3, 1), "entropy_bottleneck._factor3", (4, 3, 1), SAME),
    ("bottleneck/matrix4", (4, 1, 3), "entropy_bottleneck._matrix4", (4, 1, 3), SAME),
    ("bottleneck/bias4", (4, 1, 1), "entropy_bottleneck._bias4", (4, 1, 1), SAME),
    ("bottleneck/quantiles", (4, 1, 3), "entropy_bottleneck.quantiles", (4, 1, 3), SAME),
]
VARIABLE_RATE = {
    f"{network}/{name}{i}": (sizes[i], sizes[i + 1])[name == "bias" :]
    for network, sizes in (("offset", (2, 12, 12, 1)), ("z_step", (1, 10, 10, 1)))
    for i in range(3)
    for name in ("kernel", "bias")
}


@pytest.fixture(scope="module", params=ARCHITECTURES)
def config(request):
    return config_of(request.param, **SIZES, latent_scale=20.0, hyper_scale=3.0)


@pytest.fixture(scope="module")
def params(config):
    return trained_params(config)


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).uniform(size=(2, 64, 64, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def rounded(config, params, x):
    """The forward pass of validation."""
    return jax.device_get(forward(config, params, x, QSTEP, None))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_layout_is_compressais_but_for_transpositions(architecture):
    h_s = SCALE_H_S if architecture == "bmshj2018-hyperprior" else MEAN_H_S
    with_context = architecture == "mbt2018"
    rows = TRANSFORMS + h_s + BOTTLENECK + (PARAMETERS if with_context else [])
    shapes = shapes_of(config_of(architecture, N=4, M=6))
    ours = {name: leaf.shape for name, leaf in by_name(shapes).items()}
    assert ours == {name: shape for name, shape, *_ in rows} | VARIABLE_RATE | (
        CONTEXT if with_context else {}
    )
    assert len({theirs for _, _, theirs, *_ in rows}) == len(rows)
    for name, shape, theirs, their_shape, axes in rows:
        assert np.zeros(their_shape).transpose(axes or range(len(shape))).shape == shape, (
            name,
            theirs,
        )


def test_without_noise_the_forward_pass_is_the_codecs_arithmetic(config, params, x, rounded):
    """Sec. 1 of the method, written out with integers."""

    step = QSTEP[:, None, None, None]

    @quick_jit
    def analysis(params, x):
        y = transforms.g_a(config, params["g_a"], x)
        z = transforms.h_a(config, params["h_a"], y)
        return y, z, variable_rate.z_step(params["z_step"], step)

    @quick_jit
    def hyper_synthesis(params, z_hat, z_step, y):
        p_z = entropy_models.bottleneck_probability(params["bottleneck"], z_hat, z_step)
        sigma, mu = transforms.h_s(config, params["h_s"], z_hat)
        if config.has_context:  # of latents rounded around what a context of y itself gives
            sigma, mu = with_context(params, z_hat, y)
            scale = jnp.maximum(sigma / step, entropy_models.SCALE_MIN)
            q = jnp.round((y - mu) / step)
            delta = variable_rate.offset(params["offset"], scale, step)
            sigma, mu = with_context(params, z_hat, mu + step * jnp.sign(q) * (jnp.abs(q) - delta))
        return sigma, mu, entropy_models.bits(p_z)

    def with_context(params, z_hat, y_hat):
        psi = transforms.hyper_layers(config, params["h_s"], z_hat)[-1]
        seen = context.features(config, params["context"], y_hat, step)
        return context.entropy_parameters(config, params["entropy_parameters"], psi, seen)

    @quick_jit
    def synthesis(params, q, scale, mu):
        delta = variable_rate.offset(params["offset"], scale, step)
        y_hat = mu + step * jnp.sign(q) * (jnp.abs(q) - delta)
        bits = entropy_models.bits(entropy_models.gaussian_probability(q, scale))
        return transforms.g_s(config, params["g_s"], y_hat), bits

    y, z, z_step = map(np.asarray, analysis(params, x))
    medians = np.asarray(params["bottleneck"]["quantiles"])[:, 0, 1]
    z_hat = medians + z_step * np.rint((z - medians) / z_step)
    sigma, mu, bits_z = map(np.asarray, hyper_synthesis(params, z_hat, z_step, y))
    q = np.rint((y - mu) / step)
    assert len(np.unique(q)) > 5
    x_hat, bits_y = synthesis(params, q, np.maximum(sigma / step, entropy_models.SCALE_MIN), mu)
    np.testing.assert_allclose(rounded.x_hat, x_hat, rtol=1e-3, atol=1e-4 * np.std(x_hat))
    np.testing.assert_allclose(rounded.bits_z, bits_z, rtol=1e-4)
    np.testing.assert_allclose(rounded.bits_y, bits_y, rtol=1e-4)
