"""Claims about beginning from a model of another architecture."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import small_config

import jvrc
from jvrc.cli import main
from jvrc.export import freezing
from jvrc.frozen import zoo
from jvrc.frozen.file import save_model
from jvrc.io import images
from jvrc.model import architectures, hyperprior, modules
from jvrc.model.config import config_of
from jvrc.model.modules import init_params
from jvrc.training import warm_start
from jvrc.training.loss import objectives
from jvrc.training.run.run_folder import load_run

SIZES = {"N": 4, "M": 6, "latent_scale": 20.0, "hyper_scale": 3.0}
MEAN, CONTEXT, SCALE = (
    config_of(name, **SIZES) for name in ("mbt2018-mean", "mbt2018", "bmshj2018-hyperprior")
)
KEY = jax.random.key(1)
pytestmark = [pytest.mark.usefixtures("quick_compilation"), pytest.mark.slow]


@pytest.fixture(scope="module")
def mean():
    return init_params(jax.random.key(0), MEAN)


@pytest.fixture(scope="module")
def crops(photo):
    return photo[None, :128, :192] / np.float32(255)


def losses(config, params, crops):
    qstep = np.full(1, 2.0, np.float32)
    found = jax.jit(objectives.losses, static_argnums=0)(config, params, crops, qstep, None)
    return float(found.bpp[0]), float(found.mse[0])


def test_mbt2018_begins_as_the_model_without_context_that_it_came_from(mean, crops):
    """All of it is taken over; the context's first, random features change the rate a little."""
    params = warm_start.grafted(mean, CONTEXT, KEY, lambda: crops)
    assert set(params) == set(CONTEXT.parts)
    for name in MEAN.parts:
        jax.tree.map(np.testing.assert_array_equal, params[name], mean[name])
    silent = params | {"context": jax.tree.map(jnp.zeros_like, params["context"])}
    np.testing.assert_allclose(losses(CONTEXT, silent, crops), losses(MEAN, mean, crops), rtol=1e-3)
    bpp, mse = losses(CONTEXT, params, crops)
    expected = losses(MEAN, mean, crops)
    assert abs(bpp / expected[0] - 1) < 0.1
    assert abs(mse / expected[1] - 1) < 0.1


def test_a_scale_hyperprior_takes_the_transforms_and_begins_at_the_average_scale(mean):
    mean = mean | {"h_s": jax.tree.map(lambda a: a + 0.5, mean["h_s"])}
    params = warm_start.grafted(mean, SCALE, KEY)
    assert set(params) == set(SCALE.parts)
    for name in ("g_a", "g_s", "bottleneck", "offset", "z_step"):
        jax.tree.map(np.testing.assert_array_equal, params[name], mean[name])
    bias = mean["h_s"]["conv2"]["bias"][:6]
    np.testing.assert_array_equal(params["h_s"]["conv2"]["bias"], bias)


def test_and_back_again_drops_the_context(mean, crops):
    there = warm_start.grafted(mean, CONTEXT, KEY, lambda: crops)
    back = warm_start.grafted(there, MEAN, KEY)
    jax.tree.map(np.testing.assert_array_equal, back, mean)


def saved(params, path):
    """A weights file of MEAN's sizes, in its own scales."""
    plain, params = hyperprior.with_scales(MEAN, params, latent_scale=1.0, hyper_scale=1.0)
    return save_model(freezing.freeze(plain, params, qstep_range=(1, 16)), path)


def test_the_entropy_model_alone_is_trained_where_the_recipe_says_so(mean, tmp_path, photo, capsys):
    """Begun from another architecture, on a third model's transforms; it compresses."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(3):
        images.write_image(photos / f"{i}.png", photo[:130, 100 * i :][:, :150])
    small = ["--data", str(photos), "--n", "4", "--m", "6", "--batch", "2", "--crop", "64"]
    adam = ["--optimizer", "adam", "--steps", "2"]
    base, run = tmp_path / "base", tmp_path / "run"
    assert main(["train", *small, *adam, "-o", str(base)]) == 0
    other = tmp_path / "other.safetensors"
    model_id = saved(mean, other).model_id
    over = ["--transforms-from", str(other), "-o", str(run)]
    assert main(["train", *small, *over]) == 2
    assert "--transforms-from needs --from" in capsys.readouterr().err
    context = ["--model", "mbt2018", "--from", str(base), "--train-transforms", "no"]
    assert main(["train", *small, *adam, *context, *over]) == 0
    before, after = load_run(base), load_run(run)
    described = f"run base, step 2 (mbt2018-mean), transforms of model {model_id}"
    assert after.recipe.warm_start == described
    transforms, _ = warm_start.transforms_from(warm_start.read_source(other), after.config)
    for name, given in transforms.items():
        jax.tree.map(np.testing.assert_array_equal, after.params[name], given)
    moved = after.params["h_s"]["conv2"]["bias"] != before.params["h_s"]["conv2"]["bias"]
    assert np.any(moved)

    post = ["--data", str(photos), "--batch", "2", "--crop", "64", *adam, "--qsteps", "1,4"]
    output = tmp_path / "post"
    assert main(["posttrain", *post, "--from", str(run), "-o", str(output)]) == 0
    trained = load_run(output).params
    assert np.any(trained["context"]["conv"]["kernel"] != after.params["context"]["conv"]["kernel"])
    model = jvrc.load(output / "model.safetensors")
    assert model.config.architecture == "mbt2018"
    img = photo[:70, :90]
    assert jvrc.decompress(model, jvrc.compress(model, img, 2.0)).shape == img.shape
    capsys.readouterr()


def test_the_encoder_alone_is_trained_and_frozen_beside_the_decoder_it_has(
    mean, tmp_path, photo, capsys
):
    photos, file, run = tmp_path / "photos", tmp_path / "m.safetensors", tmp_path / "run"
    photos.mkdir()
    for i in range(3):
        images.write_image(photos / f"{i}.png", photo[:130, 100 * i :][:, :150])
    model = saved(mean, file)
    small = ["--data", str(photos), "--batch", "2", "--crop", "64"]  # sizes are those of the file
    decay = ["--weight-decay", "0.5", "--steps", "2"]
    encoder = ["--from", str(file), "--train-decoder", "no"]
    assert main(["train", *small, *decay, *encoder, "-o", str(run)]) == 0
    after = load_run(run)
    before, _ = warm_start.params_from(warm_start.read_source(file), after.config)
    for part, params in after.params.items():
        same = jax.tree.map(np.array_equal, before[part], params)
        assert all(jax.tree.leaves(same)) == (part not in ("g_a", "h_a")), part
    found = tmp_path / "found.safetensors"
    freeze = ["freeze", str(run), "--decoder-of", str(file), "-o", str(found)]
    assert main([*freeze, "--data", str(photos)]) == 2
    assert "--data fits tables, which --decoder-of keeps" in capsys.readouterr().err
    assert main(freeze) == 0
    assert f"model {model.model_id}, encoder " in capsys.readouterr().out
    renewed = jvrc.load(found)
    data = jvrc.compress(renewed, photo[:70, :90], 2.0)
    np.testing.assert_array_equal(jvrc.decompress(renewed, data), jvrc.decompress(model, data))


def test_a_model_may_take_the_transforms_of_another_and_keep_its_entropy_model(mean, tmp_path):
    file = tmp_path / "mean.safetensors"
    saved(mean, file)
    source = warm_start.read_source(file)
    transforms, described = warm_start.transforms_from(source, CONTEXT)
    assert set(transforms) == {"g_a", "g_s"}
    assert described.startswith("model ")
    config, params = source.config, source.params
    _, expected = hyperprior.with_scales(config, params, latent_scale=20.0, hyper_scale=3.0)
    for name in ("g_a", "g_s"):
        jax.tree.map(np.testing.assert_array_equal, transforms[name], expected[name])
    with pytest.raises(ValueError, match="N is 4, the recipe says 8"):
        warm_start.transforms_from(source, config_of("mbt2018", N=8, M=6))


def test_a_shipped_model_is_a_source_by_its_name(tmp_path):
    config, params, described = warm_start.read_source("mbt2018-mean")
    model = jvrc.load("mbt2018-mean")
    assert described == f"model {model.model_id}"
    assert config.latent_scale != 1  # the scales in which it was trained
    _, plain = hyperprior.with_scales(config, params)
    for ours, theirs in zip(
        jax.tree.leaves(plain["g_a"]), jax.tree.leaves(model.params["g_a"]), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)
    with pytest.raises(FileNotFoundError, match="none: no such file"):
        warm_start.read_source(tmp_path / "none")


def test_other_sizes_are_refused(tmp_path, tiny_context):
    save_model(tiny_context, tmp_path / "m.safetensors")
    source = warm_start.read_source(tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match="M is 10, the recipe says 12"):
        warm_start.params_from(source, config_of("mbt2018-mean", N=6, M=12))


# jvrc2026 becomes deeper

SMALL = small_config("jvrc2026", latent_scale=20.0, hyper_scale=3.0)
DEEPER = replace(SMALL, g_a_blocks=3, g_s_blocks=3, context_blocks=2)


@pytest.fixture(scope="module")
def trained():
    """Parameters of SMALL, none of which is zero."""
    params = init_params(jax.random.key(0), SMALL)
    return jax.tree.map(lambda a: a + 0.02, params)


def test_a_model_as_deep_as_wanted_is_returned_as_it_is(trained, monkeypatch):
    monkeypatch.setattr(modules, "draw_now", None)  # which takes seconds to compile
    assert warm_start.deepened(trained, SMALL, KEY) is trained


def test_blocks_added_change_no_bit_of_the_forward_pass(trained, crops):
    source = warm_start.Source(SMALL, trained, "a test")
    params, described = warm_start.params_from(source, DEEPER)
    assert described == "a test"
    shapes = jax.eval_shape(lambda key: init_params(key, DEEPER), KEY)
    jax.tree.map(lambda a, b: np.testing.assert_equal(a.shape, b.shape), params, shapes)
    qstep = np.full(1, 2.0, np.float32)
    forward = architectures.forward
    with jax.disable_jit():  # compiled as a whole, two programs may round otherwise
        expected = forward(SMALL, trained, crops, qstep, KEY)
        found = forward(DEEPER, params, crops, qstep, KEY)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert np.any(params["g_a"]["block2"]["in"]["kernel"])  # random, for gradients to differ


def test_training_a_frozen_jvrc2026_on_forgets_the_range_of_delta(trained, monkeypatch):
    plain, params = architectures.with_scales(SMALL, trained)
    params = params | {"delta": params["delta"] | {"range": jnp.array([1.0, 16.0])}}
    recipe = {"latent_scale": 20.0, "hyper_scale": 3.0}
    model = SimpleNamespace(
        config=plain, params=params, metadata={"recipe": recipe}, model_id="01234567"
    )
    monkeypatch.setattr(zoo, "load", lambda name: model)
    source = warm_start.read_source("a model")
    assert source.config == SMALL
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), source.params, trained)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (
            replace(SMALL, C=8, K=9, M=12),
            "M is 8, the recipe says 12; C is 6, the recipe says 8; K is 7, the recipe says 9: "
            "set its m, sizes C=6,K=7 to that",
        ),
        (replace(SMALL, g_s_blocks=1), "g_s_blocks is 2, .* 1: blocks can be added, not removed"),
        (MEAN, "a model of jvrc2026 is no beginning for one of mbt2018-mean"),
    ],
)
def test_a_source_of_other_sizes_is_refused(trained, wanted, message):
    with pytest.raises(ValueError, match=f"a test: {message}"):
        warm_start.params_from(warm_start.Source(SMALL, trained, "a test"), wanted)


def test_transforms_of_jvrc2026_stay_with_their_entropy_model(mean, trained):
    sources = (warm_start.Source(SMALL, trained, "a"), warm_start.Source(MEAN, mean, "b"))
    for source, wanted in zip(sources, (SMALL, SMALL), strict=True):
        with pytest.raises(ValueError, match="jvrc2026 has parameters that"):
            warm_start.transforms_from(source, wanted)
