"""Claims about models of CompressAI: ours gives what theirs gave.

The numbers are those that tests/golden/compressai/make.py wrote.
"""

import sys
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jvrc
from jvrc import interop
from jvrc.cli import main
from jvrc.codec.image.decoder import decode_symbols
from jvrc.evaluation.metrics import psnr
from jvrc.frozen.file import save_model
from jvrc.io import images
from jvrc.model import (
    architectures,
    context,
    entropy_models,
    hyperprior,
    modules,
    transforms,
    variable_rate,
)
from jvrc.model.latents import Latents
from jvrc.training import loop, warm_start
from jvrc.training.multi_rate import MultiRate
from jvrc.training.recipe.schema import MultiRateRecipe, SingleRateRecipe
from jvrc.training.run import parallel

FOLDER = Path(__file__).parents[1] / "golden" / "compressai"
STRIDE = 5  # of the stored samples of an image
VARIABLE = ("hyperprior-vbr", "mean-vbr", "mean-vbr-plain-z", "context-vbr")
SINGLE = ("hyperprior", "mean", "context")
CASES = [(c, q) for c in VARIABLE for q in (1.0, 2.7, 10.0)] + [(c, 1.0) for c in SINGLE]
NAMES = {
    "hyperprior": "bmshj2018-hyperprior",
    "mean": "mbt2018-mean",
    "context": "mbt2018",
}
QUICK = {"xla_backend_optimization_level": 0}  # what hardly runs
each_case = pytest.mark.parametrize("case", [*VARIABLE, *SINGLE])
each_step = pytest.mark.parametrize(("case", "qstep"), CASES)


@cache
def stored(case):
    with np.load(FOLDER / f"{case}.npz") as file:
        return dict(file)


def state_dict(case):
    found = {k: v for k, v in stored(case).items() if k.startswith("state/")}
    return {k.removeprefix("state/"): v for k, v in found.items()}


def reference(case, qstep):
    prefix = f"{qstep}/"
    found = {k.removeprefix(prefix): v for k, v in stored(case).items() if k.startswith(prefix)}
    return SimpleNamespace(**found)


@cache
def params_of(case):
    return interop.to_params(state_dict(case))


@cache
def model_of(case):
    return interop.from_compressai(state_dict(case))


@cache
def image():
    with np.load(FOLDER / "picture.npz") as file:
        return file["x"]


def close(ours, theirs, *, by=1e-4):
    """Within a ten-thousandth of the reference's norm."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    assert np.linalg.norm(ours - theirs) <= by * np.linalg.norm(theirs)


@cache
def compiled(config):
    """`evaluate` for a model."""
    return jax.jit(partial(evaluate, config), compiler_options=QUICK)


def evaluate(config, params, x, latents, qstep, y_hat):
    """What the reference's evaluation gives; y_hat: what its context has seen."""
    z_step = variable_rate.z_step(params["z_step"], qstep)
    m = entropy_models.medians(params["bottleneck"])[None, None, None]
    z_hat = m + z_step * jnp.round((latents.z - m) / z_step)
    psi = transforms.hyper_layers(config, params["h_s"], z_hat)[-1]
    if config.has_context:
        seen = context.features(config, params["context"], y_hat, qstep)
        sigma, mu = context.entropy_parameters(config, params["entropy_parameters"], psi, seen)
    else:
        sigma, mu = transforms.split_parameters(config, psi)
    scale = jnp.maximum(sigma / qstep, entropy_models.SCALE_MIN)
    q = jnp.round((latents.y - mu) / qstep)
    delta = variable_rate.offset(params["offset"], scale, qstep)
    y_hat = variable_rate.reconstruct(q, mu, qstep, delta)
    trained = hyperprior.reconstruct_and_rate(config, params, latents, qstep[None], None)
    found = {
        "analysed": architectures.analyse(config, params, x),
        "z_hat": z_hat,
        "p_z": entropy_models.bottleneck_probability(params["bottleneck"], z_hat, z_step),
        "scale": scale,
        "mu": mu,
        "p_y": entropy_models.gaussian_probability(q, scale),
        "delta": delta,
        "y_hat": y_hat,
        "x_hat": transforms.g_s(config, params["g_s"], y_hat),
        "trained": trained,
    }
    return jax.tree.map(lambda a: a[0], found) | {"z_step": z_step}


@cache
def evaluated(case, qstep):
    """(what ours gives, what theirs gave) for the reference's latents."""
    config, params = params_of(case)
    theirs, x = reference(case, qstep), image()[None] / np.float32(255)
    latents = Latents(stored(case)["y"][None], stored(case)["z"][None])
    found = compiled(config)(params, x, latents, np.float32(qstep), theirs.y_hat[None])
    return SimpleNamespace(**found), theirs


# Parity


@each_case
def test_every_parameter_is_there_in_its_shape(case):
    config, params = params_of(case)
    assert config.architecture == NAMES[case.split("-")[0]]
    expected = jax.eval_shape(partial(modules.init_params, config=config), jax.random.key(0))
    assert jax.tree.structure(params) == jax.tree.structure(expected)
    jax.tree.map(lambda a, b: np.testing.assert_equal(a.shape, b.shape), params, expected)


@each_case
@pytest.mark.slow
def test_latents_are_theirs(case):
    ours, _ = evaluated(case, 1.0)
    close(ours.analysed.y, stored(case)["y"])
    close(ours.analysed.z, stored(case)["z"])


@each_step
@pytest.mark.slow
def test_scales_means_offsets_rates_and_pixels_are_theirs(case, qstep):
    """For mbt2018 in their order, position after position: the context sees what theirs saw."""
    ours, theirs = evaluated(case, qstep)
    close(ours.z_hat, theirs.z_hat)
    close(ours.p_z, theirs.p_z)
    close(ours.scale, np.maximum(theirs.sigma / qstep, 0.11))
    close(ours.mu, theirs.mu)
    close(ours.p_y, theirs.p_y)
    close(ours.y_hat, theirs.y_hat)
    close(ours.x_hat[::STRIDE, ::STRIDE], theirs.x_hat)
    if case in VARIABLE:
        close(ours.delta, theirs.delta)
    else:
        assert not np.any(ours.delta)
    close(ours.z_step, getattr(theirs, "z_step", 1.0))


@pytest.mark.slow
@pytest.mark.parametrize(("case", "qstep"), [c for c in CASES if "context" not in c[0]])
def test_what_training_computes_is_theirs(case, qstep):
    ours, theirs = evaluated(case, qstep)
    close(ours.trained.x_hat[::STRIDE, ::STRIDE], theirs.x_hat)
    close(ours.trained.bits_y, -np.log2(theirs.p_y).sum())
    close(ours.trained.bits_z, -np.log2(theirs.p_z).sum())


@pytest.mark.slow
@pytest.mark.parametrize("case", ["hyperprior-vbr", "mean-vbr"])
@pytest.mark.parametrize("qstep", [1.0, 10.0])
def test_the_rate_of_z_is_that_of_their_coder_and_not_of_their_forward_pass(case, qstep):
    """Their forward pass hands the step over in the place of stop_gradient: bins have width 1."""
    ours, theirs = evaluated(case, qstep)
    bottleneck = params_of(case)[1]["bottleneck"]
    close(entropy_models.bottleneck_probability(bottleneck, ours.z_hat, 1.0), theirs.p_z_forward)
    close(ours.p_z, theirs.p_z)  # what `_likelihood_variable` gives with the step in its place
    assert abs(theirs.z_step - 1) > 0.3
    ratio = np.log2(theirs.p_z).sum() / np.log2(theirs.p_z_forward).sum()
    assert abs(ratio - 1) > 0.1


def test_a_single_rate_mbt2018_rounds_around_mu_as_their_compress_does():
    """Their forward pass shows the context y rounded around zero."""
    ours, theirs = evaluated("context", 1.0)
    close(ours.y_hat, theirs.y_hat)
    np.testing.assert_array_equal(theirs.y_hat_forward, np.rint(stored("context")["y"]))
    assert np.abs(theirs.y_hat - theirs.y_hat_forward).max() > 0.3


# Frozen models


@pytest.mark.parametrize("case", ["hyperprior-vbr", "mean-vbr", "context-vbr"])
def test_an_imported_model_compresses_at_once_and_as_the_reference_does(case):
    """But for rounding: parameters to integers, medians and steps of z to sixteenths."""
    model, qstep = model_of(case), 1.0
    data = jvrc.compress(model, image(), qstep, patches=False)
    restored = jvrc.decompress(model, data)
    theirs, symbols = reference(case, qstep), decode_symbols(model, data)[1].y
    expected = np.rint((stored(case)["y"] - theirs.mu) / qstep)
    assert np.abs(symbols - expected).max() <= 1
    assert np.mean(symbols != expected) < 0.25
    pixels = np.rint(255 * np.clip(theirs.x_hat, 0, 1)).astype(np.uint8)
    assert psnr(restored[::STRIDE, ::STRIDE], pixels) > 40


def test_a_file_of_an_imported_model_is_the_model(tmp_path):
    model = save_model(model_of("mean-vbr"), tmp_path / "m.safetensors")
    assert jvrc.load(tmp_path / "m.safetensors").model_id == model.model_id


def test_the_steps_are_those_of_the_gains():
    model = model_of("mean-vbr")
    steps = 1 / np.abs(state_dict("mean-vbr")["Gain"].astype(np.float32))
    assert model.metadata["imported"] == {
        "from": "CompressAI",
        "model": "mbt2018-mean-vbr",
        "qsteps": steps.tolist(),
    }
    assert model.metadata["qstep_range"] == [steps.min(), steps.max()]
    assert interop.qsteps(state_dict("mean-vbr")) == tuple(steps.tolist())


def test_a_single_rate_model_has_one_step_no_offsets_and_a_step_of_z_of_one():
    model = model_of("context")
    assert model.metadata["imported"]["model"] == "mbt2018"
    assert model.metadata["qstep_range"] == [1.0, 1.0]
    assert not model.offsets.any()
    assert model.z_steps.tolist() == [16]  # in units of 1/16
    bias = model.fixed_point_format.context_bias
    assert np.ptp(bias, axis=0).max() == 0  # the context does not see the step


# What is accepted


def old_names(state, pattern):
    """The bottleneck's parameters under the names of other generations."""
    words = {"matrices": "matrix", "biases": "bias", "factors": "factor"}
    for plural, singular in words.items():
        for i in range(5):
            given = f"entropy_bottleneck.{plural}.{i}"
            if given in state:
                new = pattern.format(plural=plural, singular=singular, i=i)
                state[f"entropy_bottleneck.{new}"] = state.pop(given)
    return state


class Tensor:
    """As much of a tensor of PyTorch as matters; no array before all three were called."""

    ORDER = ("detach", "cpu", "float")

    def __init__(self, values, called=()):
        self.values, self.called = values, called

    def __getattr__(self, name):
        if self.ORDER[len(self.called) :][:1] != (name,):
            raise AttributeError(name)
        return lambda: Tensor(self.values, (*self.called, name))

    def __array__(self, dtype=None, copy=None):
        assert self.called == self.ORDER
        return np.asarray(self.values, dtype)


VARIANTS = {
    "a checkpoint": lambda s: {"epoch": 3, "state_dict": s, "optimizer": {}},
    "DataParallel": lambda s: {f"module.{k}": v for k, v in s.items()},
    "_matrix0": lambda s: old_names(s, "_{singular}{i}"),
    "_matrices.0": lambda s: old_names(s, "_{plural}.{i}"),
    "tensors": lambda s: {k: Tensor(v) for k, v in s.items()},
    "old buffers": lambda s: (
        s | {"QuantOffset": 1.0, "gaussian_conditional._quantized_cdf": np.zeros((2, 3), np.int32)}
    ),
    "another mask": lambda s: s | {"context_prediction.mask": np.zeros(1)},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_all_their_ways_to_save_a_model_give_the_same(variant):
    config, params = interop.to_params(VARIANTS[variant](state_dict("context-vbr")))
    expected = params_of("context-vbr")
    assert config == expected[0]
    jax.tree.map(np.testing.assert_array_equal, params, expected[1])


def test_the_bottleneck_of_vbr_models_has_the_oldest_names():
    assert "entropy_bottleneck._matrix0" in state_dict("mean-vbr")
    assert "entropy_bottleneck.matrices.0" in state_dict("mean")


# What is refused


def without(state, *names):
    return {k: v for k, v in state.items() if k not in names}


def refused(state, message):
    with pytest.raises(ValueError, match=message) as caught:
        interop.from_compressai(state)
    assert "\n" not in str(caught.value)


def test_other_architectures_are_refused():
    state = state_dict("mean")
    factorized = {k: v for k, v in state.items() if not k.startswith("h_")}
    refused(factorized, "this is another architecture: it has no h_a.0.weight")
    cheng = {k.replace("g_a.0.weight", "g_a.0.conv1.weight"): v for k, v in state.items()}
    refused(cheng, "bmshj2018-hyperprior, mbt2018-mean or mbt2018, .*it has no g_a.0.weight")


def test_missing_and_unknown_names_are_listed_and_counted():
    names = [f"h_a.{i}.bias" for i in (0, 2, 4)]
    refused(without(state_dict("mean"), *names), "mbt2018-mean; 3 missing: h_a.0.bias, h_a.2.bias")
    more = {f"extra.{i}": np.zeros(1) for i in range(5)}
    listed = "5 unknown: extra.0, extra.1, extra.2, …$"
    refused(state_dict("mean") | more, listed)
    refused(without(state_dict("mean-vbr"), "Gain"), "mbt2018-mean-vbr; 1 missing: Gain")
    refused(without(state_dict("mean-vbr"), "gayn2zqstep.0.bias"), "missing: gayn2zqstep.0.bias")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("g_a.2.weight", np.zeros((5, 5, 3, 3)), r"shape \[5, 5, 5, 5\] for N = 5, M = 7; got \[5"),
        ("h_s.0.bias", np.zeros(8), r"h_s.0.bias must have the shape \[7\] .* got \[8\]"),
        ("g_s.0.bias", np.full(5, np.nan), "g_s.0.bias must be finite"),
        ("g_s.0.bias", "text", "g_s.0.bias must be an array; got str"),
    ],
)
def test_a_wrong_array_is_named_with_what_was_expected(name, value, message):
    refused(state_dict("mean") | {name: value}, message)


def test_a_gain_of_zero_is_refused():
    refused(state_dict("mean-vbr") | {"Gain": np.zeros(8)}, "Gain must be numbers other than zero")


@pytest.mark.parametrize("value", [[1, 2], {"state_dict": 3}, {1: 2}, None])
def test_what_is_no_state_dict_is_refused(value):
    refused(value, "state_dict must be arrays by name, or a checkpoint")


# The command


def read_npz(path, map_location, weights_only):
    """torch.load, for the tests: the checkpoints below are files of NumPy."""
    assert (map_location, weights_only) == ("cpu", True)
    with np.load(path) as file:
        return {"state_dict": dict(file), "epoch": 1}


@pytest.fixture
def torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(load=read_npz))


@pytest.fixture
def checkpoint(tmp_path):
    with (tmp_path / "mean.pth.tar").open("wb") as file:
        np.savez(file, **state_dict("mean"))
    return tmp_path / "mean.pth.tar"


def fails(capsys, message, *argv, code=1):
    assert main(["import-compressai", *map(str, argv)]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("jvrc: error: ")
    assert err.count("\n") == 1
    assert message in err


@pytest.mark.usefixtures("torch")
def test_the_command_writes_a_model_that_compresses_and_that_images_fit(
    checkpoint, tmp_path, capsys
):
    assert main(["import-compressai", str(checkpoint), "--note", "source=seed 0"]) == 0
    output = tmp_path / "mean.safetensors"
    model = jvrc.load(output)
    assert capsys.readouterr().out == (
        f"{output}: model {model.model_id}, mbt2018-mean, N = 5, M = 7, qsteps 1 … 1, "
        f"{output.stat().st_size} bytes\n"
    )
    assert model.metadata["source"] == "seed 0"
    assert jvrc.decompress(model, jvrc.compress(model, image(), 1)).shape == image().shape

    images.write_image(tmp_path / "photo.png", image())
    fitted = ["--data", str(tmp_path), "-o", str(tmp_path / "fitted.safetensors")]
    assert main(["import-compressai", str(checkpoint), *fitted]) == 0
    model = jvrc.load(tmp_path / "fitted.safetensors")
    assert "1 training photographs" in model.metadata["calibration"]


@pytest.mark.usefixtures("torch")
def test_mistakes_are_one_line(checkpoint, tmp_path, capsys):
    output = tmp_path / "mean.safetensors"
    output.write_bytes(b"")
    fails(capsys, "exists; choose another output with -o, or overwrite it with --force", checkpoint)
    note = ("--force", "--note", "imported=x")
    fails(capsys, "--note must be KEY=TEXT", checkpoint, *note, code=2)
    fails(capsys, "is the input itself", checkpoint, "-o", checkpoint, "--force")
    fails(capsys, "No such file", tmp_path / "none.pth.tar")
    checkpoint.write_bytes(b"not a zip archive")
    fails(capsys, "write it anew with torch.save(net.state_dict(), FILE)", checkpoint, "--force")
    with checkpoint.open("wb") as file:
        np.savez(file, **without(state_dict("mean"), "h_a.0.weight"))
    fails(capsys, f"{checkpoint}: state_dict must be that of", checkpoint, "--force")


def test_without_torch_the_remedy_is_named(checkpoint, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # what is not installed
    fails(capsys, "needs torch, its CPU build will do: pip install torch", checkpoint)


# Training goes on from them


@pytest.mark.slow
def test_a_single_rate_model_is_post_trained_at_once_and_its_offsets_live(tmp_path):
    """Their last layers are zero, but not what lies before: the first update moves them."""
    base = tmp_path / "base.safetensors"
    before = save_model(model_of("mean"), base)
    config, init, described = warm_start.read_source(base)
    assert config == before.config
    small = MultiRateRecipe(
        steps=2, batch=2, crop=64, optimizer="adam", qsteps=(1.0, 4.0), warmup=0
    )
    recipe = small.of_model(config, described)
    method, mesh = MultiRate(recipe), parallel.make_mesh()
    step = jax.jit(method.make_step(mesh), compiler_options=QUICK)
    state, _ = step(loop.first_state(method, mesh, init=init), np.stack([image()[:, :64]] * 2))
    for part in ("offset", "z_step"):
        assert not np.any(before.params[part]["kernel2"])
        assert np.all(state.params[part]["bias2"] != before.params[part]["bias2"])
        assert np.any(state.params[part]["kernel2"])


@pytest.mark.slow
def test_train_begins_from_an_imported_model_where_the_recipe_says_sigma(tmp_path):
    base = tmp_path / "base.safetensors"
    imported = save_model(model_of("mean-vbr"), base)
    recipe = SingleRateRecipe(model="mbt2018-mean", n=8, m=12, log_scale=False)
    config = recipe.config()
    source = warm_start.read_source(base)
    params, _ = warm_start.params_from(source, config)
    back = hyperprior.with_scales(config, params)  # from the scales in which it is trained
    assert back[0] == imported.config
    jax.tree.map(close, back[1], imported.params)
    with pytest.raises(ValueError, match="log_scale is False, .* True: set its log_scale to that"):
        warm_start.params_from(source, replace(recipe, log_scale=True).config())
