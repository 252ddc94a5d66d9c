"""Validation: one program for all images of a size, in full precision."""

import re
from functools import partial

import jax
import numpy as np
import pytest
from small import random_params, small_config

from jvrc.training.validation import held_out

CONFIG = small_config("jvrc2026")


def noise(count, seed):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)


@pytest.mark.usefixtures("quick_compilation")
def test_photographs_and_other_tiles_share_a_program_and_each_image_counts_once(monkeypatch):
    compiled = []
    original = held_out.compile_groups
    monkeypatch.setattr(
        held_out, "compile_groups", lambda *args: compiled.append(original(*args)) or compiled[-1]
    )
    params, photos = random_params(CONFIG), noise(9, 0)
    others = noise(4, 1) // np.array([1, 2, 4, 8], np.uint8)[:, None, None, None]
    options = {"unnatural": others, "compiled_for": params}
    report = held_out.make_validation(CONFIG, photos, **options)(params)
    assert [list(programs) for programs in compiled] == [[(9, 64, 64, 3)]]
    alone = held_out.make_validation(CONFIG, others)(params)
    at = held_out.VALIDATION_QSTEPS.index(held_out.UNNATURAL_QSTEPS[1])
    for name in ("bpp", "psnr"):
        assert report["unnatural"][name][1] == pytest.approx(alone[name][at], abs=2e-3)


def test_groups_have_one_size_and_hold_all_images():
    images = noise(20, 2)
    groups = held_out.groups(images, 9)
    assert [len(group) for group in groups] == [9, 9, 9]
    np.testing.assert_array_equal(np.concatenate(groups)[:20], images)


def test_validation_computes_in_full_precision():
    """As the codec does; training leaves accelerators their TF32 or bfloat16 products."""
    shapes = (random_params(CONFIG), noise(1, 3), np.ones(1, np.float32))
    traced = jax.jit(partial(held_out.rounded_losses, CONFIG)).trace(*shapes)
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    found = re.findall(r"precision(?:_config)? = \[([^\]]*)\]", text)
    assert found
    assert not [one for one in found if "DEFAULT" in one]
