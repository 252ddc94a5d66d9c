"""Claims about batches: they are what their images are one by one, here and in other processes."""

import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import jax
import numpy as np
import pytest
from PIL import Image

import jvrc


@pytest.fixture(scope="module")
def images():
    """Images of two sizes, one of them grey."""
    y, x = np.mgrid[:40, :56]
    rgb = np.stack([3 * x, 2 * y + x, 4 * y], axis=-1).astype(np.uint8)
    return [rgb, rgb[:33, :20], rgb[..., 1]]


def test_a_batch_is_its_images_one_by_one(tiny_2026, images):
    files = jvrc.compress_batch(tiny_2026, images, 4)
    assert files == [jvrc.compress(tiny_2026, img, 4) for img in images]
    restored = jvrc.decompress_batch(tiny_2026, files)
    for found, data in zip(restored, files, strict=True):
        np.testing.assert_array_equal(found, jvrc.decompress(tiny_2026, data))
    parts = jvrc.decompress_batch(tiny_2026, files, crop=(1, 2, 5, 4))
    assert [part.shape for part in parts] == [(4, 5, 3), (4, 5, 3), (4, 5)]
    assert jvrc.compress_batch(tiny_2026, [], 4) == jvrc.decompress_batch(tiny_2026, []) == []


def test_errors_tell_which_of_a_batch_is_wrong(tiny_2026, images):
    with pytest.raises(ValueError, match=r"images\[1\]: img must"):
        jvrc.compress_batch(tiny_2026, [images[0], np.zeros(3)], 4)
    data = jvrc.compress(tiny_2026, images[0], 4)
    with pytest.raises(jvrc.BitstreamError, match=r"files\[1\]: truncated stream"):
        jvrc.decompress_batch(tiny_2026, [data, data[:-1]])


def test_one_array_takes_no_batch(tiny_2026, images):
    data = jvrc.compress(tiny_2026, images[0], 4)
    out = np.empty((*images[0].shape[:2], 3), np.uint8)
    with pytest.raises(ValueError, match="out must be for one image"):
        jvrc.decompress_batch(tiny_2026, [data, data], out=out)


def test_one_image_or_file_is_no_batch(tiny_2026, images):
    """An array [H,W,3] would be H grey images of three columns."""
    img = images[0]
    for one in (img, Image.fromarray(img), jvrc.Picture(img), memoryview(b"12"), None):
        with pytest.raises(ValueError, match="images must be a list, got .*; of one, pass a list"):
            jvrc.compress_batch(tiny_2026, one, 4)
    with pytest.raises(ValueError, match="files must be a list, got bytes; of one, pass a list"):
        jvrc.decompress_batch(tiny_2026, jvrc.compress(tiny_2026, images[0], 4))
    stacks = np.stack([images[0], images[0]]), np.stack([images[2], images[2]])
    for stack in stacks:
        assert jvrc.compress_batch(tiny_2026, stack, 4) == jvrc.compress_batch(
            tiny_2026, list(stack), 4
        )


def test_a_model_pickles_to_itself(tiny, images):
    again = pickle.loads(pickle.dumps(tiny))
    assert (again.model_id, again.config, again.header) == (
        tiny.model_id,
        tiny.config,
        tiny.header,
    )
    jax.tree.map(np.testing.assert_array_equal, again, tiny)
    assert jvrc.compress(again, images[0], 4) == jvrc.compress(tiny, images[0], 4)


def test_batches_run_in_processes_that_are_spawned(tiny_2026, images, monkeypatch):
    folder = str(jax.config.jax_compilation_cache_dir)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", folder)
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as pool:
        files = pool.submit(partial(jvrc.compress_batch, tiny_2026, qstep=4), images).result()
        restored = pool.submit(partial(jvrc.decompress_batch, tiny_2026), files).result()
    assert files == jvrc.compress_batch(tiny_2026, images, 4)
    for found, expected in zip(restored, jvrc.decompress_batch(tiny_2026, files), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.filterwarnings("ignore")  # those of Ray and of what it imports
def test_batches_run_under_ray_data(tiny_2026, images, monkeypatch):
    ray = pytest.importorskip("ray")
    data = pytest.importorskip("ray.data")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    folder = str(jax.config.jax_compilation_cache_dir)
    compress = partial(jvrc.compress_batch, tiny_2026, qstep=4)
    environment = {"JAX_COMPILATION_CACHE_DIR": folder}
    ray.init(num_cpus=1, runtime_env={"env_vars": environment}, include_dashboard=False)
    try:
        rows = data.from_items([{"number": n} for n in range(len(images))])
        coded = rows.map_batches(
            lambda batch: batch | {"file": compress([images[n] for n in batch["number"]])},
            batch_size=2,
        )
        found = {row["number"]: row["file"] for row in coded.take_all()}
    finally:
        ray.shutdown()
    assert [found[n] for n in range(len(images))] == compress(images)
