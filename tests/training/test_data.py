import zlib
from functools import partial

import numpy as np
import pytest
from PIL import Image

from jvrc.io.images import list_images, read_image, write_image
from jvrc.training.data import batches, datasets


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve small images, one of them below the crop size, one in a subfolder."""
    root = tmp_path_factory.mktemp("images")
    (root / "deeper").mkdir()
    rng = np.random.default_rng(0)
    for i in range(12):
        shape = (40, 30, 3) if i == 0 else (90 + i, 130, 3)
        img = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))
        img.save(root / ("deeper" if i == 1 else ".") / f"{i:02}.png")
    (root / "notes.txt").write_text("not an image")
    return root


@pytest.fixture
def source(folder):
    """All the images, none kept in memory."""
    return datasets.Reader(read_image, list_images(folder))


def test_all_images_at_any_depth_are_listed(folder):
    assert len(list_images(folder)) == 12


@pytest.mark.parametrize("what", ["empty", "missing"])
def test_a_folder_without_images_is_refused(tmp_path, what):
    if what == "empty":
        (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="data must"):
        list_images(tmp_path / what)


def test_split_is_disjoint_and_complete_and_ignores_the_folder(folder, tmp_path):
    paths = list_images(folder)
    train, held_out = datasets.split_paths(paths, 0.25)
    assert sorted(train + held_out) == paths
    assert len(held_out) == 3
    moved = [tmp_path / p.name for p in paths]
    assert sorted(p.name for p in datasets.split_paths(moved, 0.25)[1]) == sorted(
        p.name for p in held_out
    )


def test_of_any_number_of_images_some_are_held_out_but_never_all():
    for count, held_out in (1, 0), (2, 1), (12, 1), (100, 4), (5000, 64):
        parts = datasets.split([str(i) for i in range(count)], 0.04, 64)
        assert sorted(parts[0] + parts[1]) == list(range(count))
        assert [len(part) for part in parts] == [count - held_out, held_out]


def test_a_folder_is_opened_as_its_split(folder):
    split = datasets.split_paths(list_images(folder))
    for part, paths in zip(datasets.open_folder(folder), split, strict=True):
        assert len(part) == len(paths) > 0
        for img, path in zip(part, paths, strict=True):
            np.testing.assert_array_equal(img, read_image(path))


def test_a_single_image_is_both_trained_on_and_validated(folder, tmp_path):
    (tmp_path / "one.png").write_bytes((folder / "05.png").read_bytes())
    train, held_out = datasets.open_folder(tmp_path)
    assert len(train) == len(held_out) == 1
    np.testing.assert_array_equal(train[0], held_out[0])


def test_images_are_kept_up_to_the_budget():
    reads = []

    def read(key):
        reads.append(key)
        return np.full((10, 10, 3), key, np.uint8)

    cached = datasets.ImageCache(datasets.Reader(read, range(40)), budget=3000, progress=False)
    assert set(range(11)) <= set(reads) <= set(range(16))  # of the rest, none is even tried
    reads.clear()
    assert [img[0, 0, 0] for img in cached] == list(range(40))
    assert reads == list(range(10, 40))


def test_the_crops_of_a_training_step_never_change():
    # a resumed run must see what it would have seen, also after an upgrade
    source = [np.arange(90 * 80 * 3, dtype=np.uint32).reshape(90, 80, 3) * k for k in (1, 3, 5)]
    got = batches.batch([img.astype(np.uint8) for img in source], 5, 9, size=64, count=4)
    assert zlib.crc32(got.tobytes()) == 0x181E76AB


def test_a_batch_depends_on_seed_and_step_alone(source):
    cached = datasets.ImageCache(source, progress=False)
    uncached = datasets.ImageCache(source, budget=50_000, progress=False)
    first = batches.batch(cached, 1, 7, size=64, count=5)
    assert first.shape == (5, 64, 64, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, batches.batch(uncached, 1, 7, size=64, count=5))
    assert not np.array_equal(first, batches.batch(cached, 1, 8, size=64, count=5))
    assert not np.array_equal(first, batches.batch(cached, 2, 7, size=64, count=5))


def test_batches_made_in_advance_are_the_same_in_order(source):
    cached = datasets.ImageCache(source, progress=False)
    shape = {"size": 64, "count": 2}
    make = partial(batches.batch, cached, 0, **shape)
    made = list(batches.in_advance(make, 3, 30))
    assert len(made) == 27
    for step, got in enumerate(made, start=3):
        np.testing.assert_array_equal(got, make(step))


def test_making_in_advance_hands_on_errors_and_can_be_left_early(source, tmp_path):
    shape = {"size": 64, "count": 2}
    ahead = batches.in_advance(partial(batches.batch, source, 0, **shape), 0, 10**9)
    next(ahead)
    ahead.close()  # returns: the thread has ended
    (tmp_path / "x.png").write_bytes(b"no image")
    broken = datasets.Reader(read_image, [tmp_path / "x.png"])
    with pytest.raises(ValueError, match=r"x\.png"), pytest.warns(UserWarning, match="skipped"):
        next(batches.in_advance(partial(batches.batch, broken, 0, **shape), 0, 5))


def test_an_image_that_cannot_be_read_is_skipped_with_a_warning_once(tmp_path):
    for i in range(3):
        write_image(tmp_path / f"{i}.png", np.full((70, 70, 3), 50 * i, np.uint8))
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:40])
    reader = datasets.Reader(read_image, list_images(tmp_path))
    with pytest.warns(UserWarning, match=r"skipped: .*1\.png"):
        assert reader[1][0, 0, 0] == 100  # that of the next one
    assert reader[1][0, 0, 0] == 100  # without another warning
    assert [path.name for path in reader.skipped] == ["1.png"]
    assert len(reader) == 3


def test_images_smaller_than_the_crop_are_announced(source):
    cached = datasets.ImageCache(source, progress=False)
    with pytest.warns(UserWarning, match=rf"^{len(source)} of {len(source)} images are smaller"):
        batches.announce_small(cached.sides(), 1024, parts="crops", option="--crop")
    batches.announce_small(cached.sides(), 16, parts="crops", option="--crop")  # no warning


def test_crops_come_from_the_image_and_half_are_mirrored():
    img = np.arange(80 * 80 * 3, dtype=np.uint32).reshape(80, 80, 3).astype(np.uint8)
    img[..., 0] = np.arange(80)  # column number
    rising = [
        batches.crop(img, 64, np.random.default_rng(s))[0, 1, 0]
        > batches.crop(img, 64, np.random.default_rng(s))[0, 0, 0]
        for s in range(60)
    ]
    assert 15 < sum(rising) < 45


def test_centres_are_the_centres(source):
    crops = batches.centres(source, size=64, limit=4)
    assert crops.shape == (4, 64, 64, 3)
    middle = source[3]  # every third image of twelve
    top, left = ((n - 64) // 2 for n in middle.shape[:2])
    np.testing.assert_array_equal(crops[1], middle[top : top + 64, left : left + 64])


def test_centres_of_small_images_are_of_whole_blocks_and_repeat_nothing():
    rng = np.random.default_rng(0)
    sizes = ((500, 400), (200, 130), (90, 700), (64, 50))
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    found = batches.centres_of_blocks(images, size=192, limit=4)
    assert [a.shape[:2] for a in found] == [(192, 192), (192, 128), (64, 192), (64, 64)]
    np.testing.assert_array_equal(found[1], images[1][4:196, 1:129])
    np.testing.assert_array_equal(found[2], images[2][13:77, 254:446])
    np.testing.assert_array_equal(found[3], batches.pad_to(images[3], 64))
    with pytest.raises(ValueError, match="must be readable"):
        batches.centres_of_blocks([], size=192, limit=4)


def test_a_small_image_is_repeated_at_its_lower_and_right_edges():
    img = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    padded = batches.pad_to(img, 4)
    assert padded.shape == (4, 4, 3)
    np.testing.assert_array_equal(padded[:2, :3], img)
    np.testing.assert_array_equal(padded[2:, :3], np.stack([img[1]] * 2))
    np.testing.assert_array_equal(padded[:, 3], padded[:, 2])
    np.testing.assert_array_equal(batches.pad_to(img, 2), img)
