"""Claims about beginning from a model of another architecture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jvrc
from jvrc.cli import main
from jvrc.export import freezing
from jvrc.frozen.file import save_model
from jvrc.io import images
from jvrc.model import hyperprior
from jvrc.model.config import config_of
from jvrc.model.modules import init_params
from jvrc.training import objectives, warm_start
from jvrc.training.run_folder import load_run

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
    assert main(["train", *small, *over]) == 1
    assert "--transforms-from needs --from" in capsys.readouterr().err
    context = ["--model", "mbt2018", "--from", str(base), "--train-transforms", "no"]
    assert main(["train", *small, *adam, *context, *over]) == 0
    before, after = load_run(base), load_run(run)
    described = f"run base, step 2 (mbt2018-mean), transforms of model {model_id}"
    assert after.recipe.warm_start == described
    for name, given in warm_start.transforms_from(other, after.config)[0].items():
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


def test_a_model_may_take_the_transforms_of_another_and_keep_its_entropy_model(mean, tmp_path):
    file = tmp_path / "mean.safetensors"
    saved(mean, file)
    transforms, described = warm_start.transforms_from(file, CONTEXT)
    assert set(transforms) == {"g_a", "g_s"}
    assert described.startswith("model ")
    config, expected, _ = warm_start.read_source(file)
    _, expected = hyperprior.with_scales(config, expected, latent_scale=20.0, hyper_scale=3.0)
    for name in ("g_a", "g_s"):
        jax.tree.map(np.testing.assert_array_equal, transforms[name], expected[name])
    with pytest.raises(ValueError, match="N is 4, the recipe says 8"):
        warm_start.transforms_from(file, config_of("mbt2018", N=8, M=6))


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
    with pytest.raises(ValueError, match="must be a shipped model"):
        warm_start.read_source(tmp_path / "none")


def test_other_sizes_are_refused(tmp_path, tiny_context):
    save_model(tiny_context, tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match="M is 10, the recipe says 12"):
        warm_start.params_from(tmp_path / "m.safetensors", config_of("mbt2018-mean", N=6, M=12))
