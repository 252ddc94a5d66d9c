"""Claims about the Flax modules: what they hold, and that they compute what the functions do."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small import small_config

from jvrc.model import (
    architectures,
    context,
    entropy_models,
    layers,
    modules,
    parts,
    parts2026,
    transforms,
)
from jvrc.model.config import ARCHITECTURES, ENCODER_PARTS, config_of
from jvrc.model.latents import draw_noise
from jvrc.model.modules import VariableRateModel
from jvrc.qstep import rd_lambda

# These run once: better compiled quickly than well.
quick_jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
MEAN, CONTEXT = (config_of(name, N=4, M=6) for name in ("mbt2018-mean", "mbt2018"))
KEY, NOISE = jax.random.key(1), jax.random.key(2)
QSTEP = np.array([0.7, 3.0], np.float32)


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).uniform(size=(2, 64, 64, 3)).astype(np.float32)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def config(request):
    return small_config(request.param, latent_scale=20.0, hyper_scale=3.0)


@pytest.fixture(scope="module")
def params(config):
    return modules.init_params(KEY, config)


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def assert_close(a, b):
    jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, rtol=1e-5, atol=1e-6), a, b)


@pytest.mark.slow
def test_init_params_is_init_without_a_forward_pass(config, params, x):
    made = jax.jit(VariableRateModel(config).init)(KEY, x, QSTEP)
    assert made.keys() == {"params"}
    assert_close(made["params"], params)
    assert tuple(sorted(params)) == tuple(sorted(config.parts))


def test_the_cpu_draws_new_parameters(config, monkeypatch):
    monkeypatch.setattr(modules, "draw_now", lambda *_: jax.config.jax_default_device)
    assert modules.init_params(KEY, config) in jax.devices("cpu")
    assert jax.config.jax_default_device is None


def leaves(params, *parts):
    """{"g_a/conv0/kernel": array, …} of some parts."""
    found = jax.tree_util.tree_leaves_with_path({name: params[name] for name in parts})
    return {"/".join(k.key for k in path): np.asarray(leaf) for path, leaf in found}


def test_a_key_decides_what_is_drawn(params, config):
    assert_equal(modules.init_params(KEY, config), params)
    other = leaves(modules.init_params(jax.random.key(3), config), *config.parts)
    drawn = {name: v for name, v in leaves(params, *config.parts).items() if len(np.unique(v)) > 5}
    kernels = {name: v for name, v in drawn.items() if name.endswith("kernel")}
    assert len(kernels) > 8
    assert len({float(np.std(v)) for v in kernels.values()}) == len(kernels)  # none drawn twice
    assert not any(np.array_equal(v, other[name]) for name, v in kernels.items())


def test_kernels_start_within_pytorchs_bound(params):
    for name, value in leaves(params, "g_a", "g_s", "h_a").items():
        if "conv" in name and name.endswith("kernel"):
            gain = 2 if name.startswith("g_s") else 1
            bound = gain / np.sqrt(np.prod(value.shape[:-1]))
            assert 0.9 * bound < np.abs(value).max() <= bound
        if name.endswith("bias"):
            assert not np.any(value)


def test_new_blocks_of_jvrc2026_are_the_identity():
    module = parts2026.Block(6, 2, 1, features=3)
    x = jax.random.normal(KEY, (1, 4, 4, 6))
    out, variables = module.init_with_output(KEY, x, jnp.ones((1, 3)))
    np.testing.assert_array_equal(out, x)
    assert np.ptp(variables["params"]["in"]["kernel"]) > 0


def test_a_call_is_the_pure_forward_pass(config, params, x):
    """With the noise of the stream "noise", or of rounded latents without it."""
    model, variables, rngs = VariableRateModel(config), {"params": params}, {"noise": NOISE}

    @quick_jit
    def calls(params, x):
        key = model.apply(variables, rngs=rngs, method=lambda module: module.make_rng("noise"))
        noisy = model.apply(variables, x, QSTEP, rngs=rngs)
        rounded = model.apply(variables, x, QSTEP)
        pure = partial(architectures.forward, config, params, x, QSTEP)
        return (noisy, rounded), (pure(key), pure(None))

    (noisy, rounded), expected = calls(params, x)
    assert_close((noisy, rounded), expected)
    assert np.all(noisy.bits_y != rounded.bits_y)
    assert np.all(noisy.bits_z != rounded.bits_z)


def test_each_side_needs_its_own_parameters_only(config, params, x):
    model = VariableRateModel(config)
    encoder = {name: params[name] for name in ENCODER_PARTS}
    decoder = {name: value for name, value in params.items() if name not in ENCODER_PARTS}

    @quick_jit
    def both(encoder, decoder, params, x):
        latents = model.apply({"params": encoder}, x, method="analyse")
        noise = draw_noise(NOISE, latents)
        variables = {"params": decoder}
        out = model.apply(variables, latents, QSTEP, noise, method="reconstruct_and_rate")
        expected = architectures.analyse(config, params, x)
        return (latents, out), (
            expected,
            architectures.reconstruct_and_rate(config, params, expected, QSTEP, noise),
        )

    assert_close(*both(encoder, decoder, params, x))


def held(module, seed=0):
    """Random parameters of a module."""
    shapes = jax.eval_shape(partial(module.init, method="parameters"), KEY)["params"]
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: rng.uniform(0.05, 0.3, a.shape).astype(np.float32), shapes)


Y, Z = (np.random.default_rng(1).normal(size=(1, s, s, c)).astype("f") for s, c in ((4, 6), (1, 4)))
IMAGE = np.random.default_rng(2).uniform(size=(1, 64, 64, 3)).astype(np.float32)
PSI = np.random.default_rng(3).normal(size=(1, 4, 4, 12)).astype(np.float32)
QSTEP_OF_ONE = np.full((1, 1, 1, 1), 2.0, np.float32)


@pytest.mark.parametrize(
    ("module", "function", "inputs"),
    [
        (parts.GDN(6), layers.gdn, (Y,)),
        (parts.GDN(6, inverse=True), partial(layers.gdn, inverse=True), (Y,)),
        (parts.Analysis(MEAN), partial(transforms.g_a, MEAN), (IMAGE,)),
        (parts.Synthesis(MEAN), partial(transforms.g_s, MEAN), (Y,)),
        (parts.HyperAnalysis(MEAN), partial(transforms.h_a, MEAN), (Y,)),
        (parts.HyperSynthesis(MEAN), partial(transforms.h_s, MEAN), (Z,)),
        (parts.EntropyBottleneck(4), entropy_models.bottleneck_probability, (Z, 2.0)),
        (parts.ContextModel(CONTEXT), partial(context.features, CONTEXT), (Y, QSTEP_OF_ONE)),
        (
            parts.EntropyParameters(CONTEXT),
            partial(context.entropy_parameters, CONTEXT),
            (PSI, PSI),
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_a_module_computes_what_its_function_does(module, function, inputs):
    params = held(module)
    got = quick_jit(lambda p: module.apply({"params": p}, *inputs))(params)
    expected = quick_jit(lambda p: function(p, *inputs))(params)
    assert_close(got, expected)
    assert all(np.ptp(leaf) > 0 for leaf in jax.tree.leaves(got))


@pytest.mark.slow
def test_a_model_trains_two_steps_by_init_and_apply(x):
    """As the README shows it: every parameter moves, and the loss falls."""
    config = config_of("mbt2018", N=4, M=6, latent_scale=20.0, hyper_scale=3.0)
    model, params = VariableRateModel(config), modules.init_params(KEY, config)
    optimizer = optax.adam(1e-3)

    def loss(params, key):
        out = model.apply({"params": params}, x, QSTEP, rngs={"noise": key})
        bpp = (out.bits_y + out.bits_z) / (x.shape[1] * x.shape[2])
        mse = jnp.mean(jnp.square(x - out.x_hat), axis=(1, 2, 3))
        auxiliary = entropy_models.quantile_loss(params["bottleneck"])
        return jnp.mean(bpp + rd_lambda(QSTEP) * 255**2 * mse) + auxiliary

    @quick_jit
    def step(params, state):
        value, gradient = jax.value_and_grad(loss)(params, NOISE)
        with jax.numpy_dtype_promotion("standard"):  # optax raises floats to integer powers
            updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    trained, state, values = params, optimizer.init(params), []
    for _ in range(3):
        trained, state, value = step(trained, state)
        values.append(float(value))
    assert values[2] < values[1] < values[0]
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(trained), strict=True
    ):
        assert np.any(a != b), path
