"""The scan of a trained model finds what it predicts out of bounds."""

import jax
import numpy as np
import pytest
from small import random_params, small_config

from jvrc.model.config import ARCHITECTURES
from jvrc.training.validation import extremes

pytestmark = pytest.mark.usefixtures("quick_compilation")


def noise(count=1):
    return np.random.default_rng(1).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_predictions_of_every_architecture_are_within_the_extremes(architecture):
    config = small_config(architecture)
    params = random_params(config)
    found = extremes.extremes(config, params, noise(), (4.0,))
    predict = jax.jit(lambda p, x, q: extremes.predictions(config, p, x, q))
    pair = predict(params, noise().astype(np.float32) / 255, np.full(1, 4.0, np.float32))
    for values, (low, high) in zip(pair, found, strict=True):
        assert values.shape == (1, 4, 4, config.M)
        assert (float(values.min()), float(values.max())) == (low, high)


def test_one_program_serves_all_images():
    config = small_config("mbt2018-mean")
    extremes.ends_of.clear_cache()
    photos = [np.zeros((256, 256, 3), np.uint8)] * 11
    extremes.described(config, random_params(config), photos)
    assert extremes.ends_of._cache_size() == 1


def test_an_absurd_scale_is_reported_as_such():
    config = small_config("mbt2018-mean")
    params = random_params(config)
    params["h_s"]["conv2"]["bias"] = params["h_s"]["conv2"]["bias"].at[0].set(32000.0)
    lines = extremes.described(config, params, list(noise(2)))
    assert [line.split(":")[0] for line in lines] == ["photographs", "other tiles"]
    assert all("3200" in line for line in lines)
