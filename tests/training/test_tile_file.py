"""Training files: what `jvrc pack` writes is what was in the images, mapped and drawn evenly."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from jvrc.cli import main
from jvrc.io import images
from jvrc.training import stepping
from jvrc.training.data import batches, datasets, tile_crops, tile_file
from jvrc.training.data.tile_file import Tiling

TILING = Tiling(side=64, stride=48, scales=(1.0, 0.5), unnatural=9)
SIZES = [(150, 200), (64, 64), (40, 70), (130, 128)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Small images, one of them below the side of a tile."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for i, size in enumerate(SIZES):
        images.write_image(root / f"{i}.png", rng.integers(0, 256, (*size, 3), dtype=np.uint8))
    return root


@pytest.fixture(scope="module")
def packed(folder, tmp_path_factory):
    """(path, the data set that it was packed from)."""
    path = tmp_path_factory.mktemp("packed") / "photos.tiles"
    source = datasets.open_folder(folder)
    with pytest.warns(UserWarning, match="1 of 3 images are smaller than the tiles of 64x64"):
        tile_file.pack(source, path, TILING, progress=False)
    return path, source


def test_tiles_cover_the_image_and_its_smaller_version():
    img = np.zeros((150, 200, 3), np.uint8)
    img[149, 199] = 255
    tiles = tile_file.tiles_of(img, TILING)
    assert [t.shape for t in tiles] == [(64, 64, 3)] * (3 * 4 + 2 * 2)
    assert tiles[11][63, 63, 0] == 255
    assert len(tile_file.tiles_of(img[:40], TILING)) == 4  # less than a tile at half of its size


def test_a_file_holds_the_tiles_of_training_images_and_held_out_centres(packed):
    path, source = packed
    train, held_out = tile_file.open_tiles(path)
    expected = [t for img in source.train for t in tile_file.tiles_of(img, TILING)]
    assert len(train) == len(expected)
    np.testing.assert_array_equal(np.stack(list(train)), np.stack(expected))
    np.testing.assert_array_equal(held_out, batches.centres(source.held_out, size=64))
    assert len(train.array) == len(expected) + 9
    arrays = load_file(path)  # whoever knows safetensors can read it
    np.testing.assert_array_equal(arrays["tiles"], train.array)
    with pytest.raises(IndexError):
        train[len(train)]


def test_images_weigh_more_by_their_size_but_far_from_in_proportion(packed):
    path, source = packed
    weights = tile_file.open_tiles(path).train.weights
    counts = [len(tile_file.tiles_of(img, TILING)) for img in source.train]
    starts = np.cumsum([0, *counts])
    sums = [weights[a:b].sum() for a, b in zip(starts[:-1], starts[1:], strict=True)]
    np.testing.assert_allclose(sums, np.array(counts) ** 0.25, rtol=1e-5)


def test_other_tiles_are_drawn_as_often_as_the_recipe_says(packed):
    train = tile_file.open_tiles(packed[0]).train
    chances = train.chances(0.25)
    assert chances[-1] == pytest.approx(1.0)
    assert 1 - chances[len(train) - 1] == pytest.approx(0.25, abs=1e-6)
    assert train.chances(0.0)[len(train) - 1] == pytest.approx(1.0)
    draw = {"count": 4000, "side": 64, "size": 64}
    drawn = tile_crops.draw_places(0, jnp.int32(3), chances, **draw).tile
    assert np.mean(np.asarray(drawn) >= len(train)) == pytest.approx(0.25, abs=0.03)
    drawn = tile_crops.draw_places(0, jnp.int32(3), train.chances(0.0), **draw).tile
    assert int(drawn.max()) < len(train)


def test_crops_are_the_same_on_the_device_and_on_the_host(packed):
    train = tile_file.open_tiles(packed[0]).train
    chances, options = train.chances(0.1), {"count": 40, "side": 64, "size": 32}
    batch = tile_crops.host_batches(train.array, chances, 5, count=40, size=32)
    places = tile_crops.draw_places(5, jnp.int32(7), chances, **options)
    on_device = jax.jit(tile_crops.cut, static_argnames="size")(train.array, places, size=32)
    np.testing.assert_array_equal(batch(7), on_device)
    assert np.any(batch(7) != batch(8))
    assert all(0.2 < np.mean(m) < 0.8 for m in np.asarray(places.mirrored))


def test_steps_come_in_parts_that_end_at_multiples():
    assert list(stepping.chunks(3, 21, 8)) == [(3, 8), (8, 16), (16, 21)]
    assert list(stepping.chunks(5, 5, 8)) == []


def test_what_is_no_training_file_is_refused(packed, tmp_path):
    other = tmp_path / "x.tiles"
    for content in (b"", b"short", packed[0].read_bytes()[:9000]):
        other.write_bytes(content)
        with pytest.raises(ValueError, match="not a training file of `jvrc pack`"):
            tile_file.open_tiles(other)


@pytest.mark.parametrize(
    "wrong", [{"side": 32}, {"stride": 0}, {"stride": 65}, {"scales": (0.5,)}, {"unnatural": -1}]
)
def test_a_tiling_must_cover_images(packed, tmp_path, wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        tile_file.pack(packed[1], tmp_path / "x", TILING._replace(**wrong))
    assert not list(tmp_path.iterdir())


def test_a_file_appears_complete_or_not_at_all(packed, tmp_path):
    def read(key):
        raise RuntimeError("no more memory")

    broken = datasets.Dataset(datasets.Reader(read, range(2)), packed[1].held_out)
    with pytest.raises(RuntimeError, match="no more memory"):
        tile_file.pack(broken, tmp_path / "x", TILING, progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("default")  # which the command prints
def test_the_command_writes_a_file_once(folder, packed, tmp_path, capsys):
    out = tmp_path / "x.tiles"
    options = ["--side", "64", "--stride", "48", "--scales", "1,0.5", "--unnatural", "9"]
    command = ["pack", str(folder), "-o", str(out), *options]
    assert main(command) == 0
    shown = capsys.readouterr()
    assert "of 3 images" in shown.out
    assert "1 of 3 images are smaller than the tiles of 64x64" in shown.err
    assert "choose a smaller --side" in shown.err
    assert out.read_bytes() == packed[0].read_bytes()
    assert main(command) == 1
    assert "--force" in capsys.readouterr().err


@pytest.mark.filterwarnings("default")  # which the command prints
def test_a_damaged_image_is_listed_and_no_other_one_takes_its_place(folder, tmp_path, capsys):
    photos = tmp_path / "photos"
    shutil.copytree(folder, photos)
    source = datasets.open_folder(photos)
    kept = len(source.train) - 1
    damaged = datasets.split_paths(images.list_images(photos))[0][0]
    damaged.write_bytes(damaged.read_bytes()[:60])
    expected = [t for i in range(1, kept + 1) for t in tile_file.tiles_of(source.train[i], TILING)]
    options = ["--side", "64", "--stride", "48", "--scales", "1,0.5", "--unnatural", "0"]
    assert main(["pack", str(photos), "-o", str(tmp_path / "x.tiles"), *options]) == 0
    shown = capsys.readouterr()
    assert f"of {kept} images" in shown.out
    assert str(damaged) in shown.err.splitlines()[-1]
    found = tile_file.open_tiles(tmp_path / "x.tiles").train
    np.testing.assert_array_equal(np.stack(list(found)), np.stack(expected))


@pytest.mark.filterwarnings("ignore:skipped")
def test_nothing_is_packed_where_no_image_can_be_read(packed, tmp_path):
    def read(key):
        raise ValueError("damaged")

    broken = datasets.Dataset(datasets.Reader(read, range(2)), packed[1].held_out)
    with pytest.raises(ValueError, match="images to pack must be readable"):
        tile_file.pack(broken, tmp_path / "x", TILING, progress=False)
    assert not list(tmp_path.iterdir())


def test_crops_are_no_larger_than_tiles(packed, capsys, tmp_path):
    """Nothing is left of the attempt, which the next one would find in its way."""
    argv = ["train", "--data", str(packed[0]), "-o", str(tmp_path / "r"), "--crop", "128"]
    assert main([*argv, "--steps", "2", "--n", "4", "--m", "6", "--batch", "2"]) == 1
    assert "crop must be at most 64, the side of the tiles; got 128" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_a_run_is_no_file(packed, capsys, tmp_path):
    (tmp_path / "r").write_bytes(b"")
    assert main(["train", "--data", str(packed[0]), "-o", str(tmp_path / "r")]) == 1
    assert "run must be a folder" in capsys.readouterr().err
