"""Claims about a new encoder for a decoder that is in use: same id, same files."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from small import random_params, small_config

import jvrc
from jvrc.export.encoder import freeze_encoder
from jvrc.frozen.file import annotate, read_model, save_model, seal
from jvrc.model import architectures
from jvrc.model.config import ENCODER_PARTS
from jvrc.training.recipe.schema import SingleRateRecipe, model_fields
from jvrc.training.run.run_folder import Run

IMAGE = np.random.default_rng(0).integers(0, 256, (70, 130, 3), np.uint8)


def run_of(model, *, changed=ENCODER_PARTS, **sizes):
    """A run that began from the model, in other scales, and changed some parts."""
    config = replace(model.config, **sizes)
    recipe = SingleRateRecipe(**model_fields(config), train_decoder=False)
    params = model.params
    if "delta" in params:
        params = params | {"delta": {k: v for k, v in params["delta"].items() if k != "range"}}
    others = random_params(config)
    params = params | {name: jax.tree.map(lambda a: 1.1 * a, others[name]) for name in changed}
    scales = {"latent_scale": 20.0, "hyper_scale": 3.0}
    config, params = architectures.with_scales(config, params, **scales)
    return Run(config, params, recipe, 7, recipe.qstep_range())


@pytest.fixture
def renewed(tiny, tmp_path):
    """The tiny model with another encoder."""
    model = freeze_encoder(tiny, run_of(tiny), {"note": "a test"})
    return save_model(model, tmp_path / "renewed.safetensors")


def test_files_of_either_encoder_decode_with_either_model(tiny, renewed):
    assert renewed.model_id == tiny.model_id
    for encoder in (tiny, renewed):
        data = jvrc.compress(encoder, IMAGE, 2.0, patches=False)
        expected = jvrc.decompress(tiny, data)
        np.testing.assert_array_equal(jvrc.decompress(renewed, data), expected)
    one, other = (jvrc.compress(m, IMAGE, 2.0, patches=False) for m in (tiny, renewed))
    assert one != other


def test_the_encoder_is_the_runs_and_all_else_the_decoders(tiny, renewed):
    for part, params in renewed.params.items():
        same = jax.tree.map(np.array_equal, params, tiny.params[part])
        assert all(jax.tree.leaves(same)) == (part not in ENCODER_PARTS)
    for name in ("network", "fixed_point_format", "offsets", "z_tables", "y_tables"):
        jax.tree.map(np.testing.assert_array_equal, getattr(renewed, name), getattr(tiny, name))


def test_the_file_keeps_id_fingerprint_and_description(tiny, renewed, tmp_path):
    path = tmp_path / "renewed.safetensors"
    annotate(path, {"license": "CC0"})
    again = read_model(path)
    assert again.model_id == tiny.model_id == tiny.fingerprint
    assert again.fingerprint == renewed.fingerprint != tiny.fingerprint
    assert again.metadata["format"] == "jvrc-frozen-3"
    assert again.metadata["encoder"]["steps_done"] == 7
    assert again.metadata["license"] == "CC0"


def test_an_encoder_may_have_more_blocks(tiny_2026, tmp_path):
    run = run_of(tiny_2026, g_a_blocks=7)  # sees further than one block of 64 pixels
    model = save_model(freeze_encoder(tiny_2026, run, {}), tmp_path / "m.safetensors")
    assert model.config.g_a_blocks == 7
    data = jvrc.compress(model, IMAGE, 2.0, patches=False)
    expected = jvrc.decompress(tiny_2026, data)
    np.testing.assert_array_equal(jvrc.decompress(model, data), expected)
    again = freeze_encoder(model, run_of(tiny_2026), {})  # an encoder in the place of another
    assert (again.model_id, again.config.g_a_blocks) == (tiny_2026.model_id, 1)


def test_an_unchanged_encoder_is_the_same_model(tiny):
    found = freeze_encoder(tiny, run_of(tiny, changed=()), {})
    assert (found.fingerprint, found.model_id) == (tiny.fingerprint, tiny.model_id)


def test_changed_arrays_have_no_inherited_id(renewed):
    params = renewed.params | {"g_s": jax.tree.map(lambda a: 2 * a, renewed.params["g_s"])}
    model = seal(replace(renewed, params=params))
    assert model.model_id == model.fingerprint not in (renewed.model_id, renewed.fingerprint)
    assert model.metadata["format"] == "jvrc-frozen-2"


@pytest.mark.parametrize("part", ["g_s", "h_s", "bottleneck"])
def test_another_decoder_is_refused(tiny, part):
    with pytest.raises(ValueError, match=f"its {part} is another: train it with .*--train-decoder"):
        freeze_encoder(tiny, run_of(tiny, changed=(part,)), {})


def test_other_sizes_are_refused(tiny):
    config = small_config(tiny.config.architecture, N=6, M=14)
    recipe = SingleRateRecipe(**model_fields(config))
    with pytest.raises(ValueError, match="sizes of the decoder's model; it has M = 1"):
        freeze_encoder(tiny, Run(config, random_params(config), recipe, 1, (1.0, 8.0)), {})
