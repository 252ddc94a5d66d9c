"""Small TensorFlow data sets that the tests prepare themselves, without TensorFlow or a network."""

import json
import socket
import sys
from functools import partial

import numpy as np
import pytest
from PIL import Image

from jvrc.io.images import read_image
from jvrc.training.data import batches, datasets, tfds_source

pytest.importorskip(
    "array_record", reason="needs the extra tfds; array_record has no wheels for Windows"
)
tfds = pytest.importorskip("tensorflow_datasets")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("a data set was looked for on the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def prepare(dataset, features, splits, data_dir):
    """Prepares the examples of each split; TFDS does not learn the name, as in another process."""

    class Photos(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = dataset
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            kinds = tfds.features.FeaturesDict(features)
            return tfds.core.DatasetInfo(builder=self, features=kinds)

        def _split_generators(self, _):
            return {split: self._generate_examples(split) for split in splits}

        def _generate_examples(self, split):
            yield from enumerate(splits[split])

    offline = tfds.download.DownloadConfig(try_download_gcs=False)
    builder = Photos(data_dir=data_dir, file_format="array_record")
    builder.download_and_prepare(download_config=offline)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Twelve small PNG files, one of them grey, one with an alpha channel."""
    root = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    paths = [root / f"{i:02}.png" for i in range(12)]
    for i, path in enumerate(paths):
        img = Image.fromarray(rng.integers(0, 256, (70 + i, 90, 3), dtype=np.uint8))
        img.convert({3: "L", 4: "RGBA"}.get(i, "RGB")).save(path)
    return paths


@pytest.fixture(scope="module")
def folder(files, tmp_path_factory):
    """A data_dir with the data set `photos`: twelve in the split train, three of them in test."""
    root = tmp_path_factory.mktemp("tfds")
    features = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(num_classes=3)}
    examples = [{"image": str(path), "label": 1} for path in files]
    prepare("photos", features, {"train": examples, "test": examples[:3]}, root)
    return root


def test_images_are_those_of_the_files_and_each_is_in_one_part(folder, files):
    train, held_out = tfds_source.open_tfds("photos", folder)
    assert (len(train), len(held_out)) == (11, 1)
    read = [img.tobytes() for part in (train, held_out) for img in part]
    assert sorted(read) == sorted(read_image(path).tobytes() for path in files)
    assert all(img.dtype == np.uint8 and img.shape[1:] == (90, 3) for img in train)


def test_any_image_can_be_read_at_any_time(folder):
    train = tfds_source.open_tfds("photos", folder).train
    in_order = list(train)
    for i in (10, 0, 4, 4):
        np.testing.assert_array_equal(train[i], in_order[i])
    with pytest.raises(IndexError):
        train[11]


def test_the_same_images_are_held_out_each_time(folder):
    (first,), (again,) = (tfds_source.open_tfds("photos", folder).held_out for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_batches_depend_on_seed_and_step_alone_also_when_read_by_threads(folder):
    train = tfds_source.open_tfds("photos", folder).train
    cached = datasets.ImageCache(train, progress=False)
    shape = {"size": 64, "count": 3}
    first = batches.batch(cached, 1, 7, **shape)
    np.testing.assert_array_equal(first, batches.batch(train, 1, 7, **shape))
    ahead = batches.in_advance(partial(batches.batch, train, 1, **shape), 7, 9)
    np.testing.assert_array_equal(first, next(ahead))
    assert not np.array_equal(first, batches.batch(cached, 1, 8, **shape))


def test_reading_needs_no_tensorflow(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # importing it fails
    assert tfds_source.open_tfds("photos", folder).train[0].dtype == np.uint8


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("clic", ("clic", "train")),
        ("clic:test", ("clic", "test")),
        ("clic:train[:50%]", ("clic", "train[:50%]")),
        ("clic:train[:50%]+test[1:]", ("clic", "train[:50%]+test[1:]")),
        ("voc/2007", ("voc/2007", "train")),
        ("voc/2007:5.0.0", ("voc/2007:5.0.0", "train")),
        ("clic:1.0.0:validation", ("clic:1.0.0", "validation")),
    ],
)
def test_a_name_may_say_the_version_and_the_split(text, expected):
    assert tfds_source.parse_name(text) == expected


@pytest.mark.parametrize(
    ("name", "count"),
    [("photos:test", 3), ("photos:train[:50%]", 6), ("photos:1.0.0:train+test", 15)],
)
def test_images_are_held_out_of_the_split_chosen(folder, name, count):
    assert [len(part) for part in tfds_source.open_tfds(name, folder)] == [count - 1, 1]


def test_a_single_image_is_both_trained_on_and_validated(folder):
    train, held_out = tfds_source.open_tfds("photos:test[:1]", folder)
    assert len(train) == len(held_out) == 1
    np.testing.assert_array_equal(train[0], held_out[0])


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("", r"must be NAME\[:SPLIT\].*got ''"),
        ("photos:", r"must be NAME\[:SPLIT\]"),
        ("no photos", r"must be NAME\[:SPLIT\]"),
        ("photso", "'photso' is not in .*knows no data set of that name"),
        ("hub:photos", "'hub' is not in"),
        ("clic", r"must be prepared.*'clic' is not in.*tfds\.builder\('clic', data_dir='.*'\)"),
        ("photos:val", "must be of train, test, .*got 'val' of 'photos'"),
        ("photos:train[", "got 'train\\['"),
        ("photos:train[:0]", "part that is not empty"),
    ],
)
def test_what_is_not_there_is_refused_in_a_line(folder, name, match):
    with pytest.raises(ValueError, match=match) as caught:
        tfds_source.open_tfds(name, folder)
    assert "\n" not in str(caught.value)


def test_the_default_folder_is_named(folder, monkeypatch):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(folder / "none"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder / "none"))
    with pytest.raises(ValueError, match=r"none: run tfds\.builder\('clic'\)\.download"):
        tfds_source.open_tfds("clic")


def test_a_data_set_in_another_format_is_refused(folder, tmp_path):
    there = tmp_path / "photos" / "1.0.0"
    there.mkdir(parents=True)
    for path in (folder / "photos" / "1.0.0").glob("*.json"):
        (there / path.name).write_bytes(path.read_bytes())
    info = json.loads((there / "dataset_info.json").read_text())
    (there / "dataset_info.json").write_text(json.dumps(info | {"fileFormat": "tfrecord"}))
    with pytest.raises(ValueError, match="as array_record to be read at random.* is tfrecord"):
        tfds_source.open_tfds("photos", tmp_path)


def test_the_feature_image_is_taken_and_no_other_is_decoded(files, tmp_path):
    features = {key: tfds.features.Image() for key in ("image", "mask")}
    (tmp_path / "broken.png").write_bytes(b"no image")
    example = {"image": str(files[0]), "mask": str(tmp_path / "broken.png")}
    prepare("masks", features, {"train": [example]}, tmp_path)
    train = tfds_source.open_tfds("masks", tmp_path).train
    np.testing.assert_array_equal(train[0], read_image(files[0]))


def test_another_feature_is_taken_if_no_other_holds_images(files, tmp_path):
    features = {"photo": tfds.features.Image(), "depth": tfds.features.Image()}
    prepare("depths", features, {"train": [dict.fromkeys(features, str(files[0]))]}, tmp_path)
    path = tmp_path / "depths" / "1.0.0" / "features.json"
    kinds = json.loads(path.read_text())
    # TFDS keeps floats as PNG files of their bits, and needs TensorFlow to prepare them
    kinds["featuresDict"]["features"]["depth"]["image"] |= {
        "dtype": "float32",
        "shape": {"dimensions": ["-1", "-1", "1"]},
    }
    path.write_text(json.dumps(kinds))
    train = tfds_source.open_tfds("depths", tmp_path).train
    np.testing.assert_array_equal(train[0], read_image(files[0]))


@pytest.mark.parametrize(
    ("keys", "match"), [([], "'images' has none among n"), (["hr", "lr"], "has hr, lr among hr")]
)
def test_without_a_single_feature_of_images_a_data_set_is_refused(files, tmp_path, keys, match):
    features = {key: tfds.features.Image() for key in keys} | {"n": tfds.features.Scalar(np.int64)}
    example = dict.fromkeys(keys, str(files[0])) | {"n": 1}
    prepare("images", features, {"train": [example]}, tmp_path)
    with pytest.raises(ValueError, match=match):
        tfds_source.open_tfds("images", tmp_path)


def test_a_damaged_image_is_named(files, tmp_path):
    (tmp_path / "cut.png").write_bytes(files[0].read_bytes()[:5000])
    example = {"image": str(tmp_path / "cut.png")}
    prepare("cut", {"image": tfds.features.Image()}, {"train": [example]}, tmp_path)
    message = "cut:train, image 0: damaged or unsupported image"
    with pytest.raises(ValueError, match=message), pytest.warns(UserWarning, match=message):
        tfds_source.open_tfds("cut", tmp_path).train[0]


@pytest.mark.parametrize("missing", ["array_record", "tensorflow_datasets"])
def test_a_missing_extra_is_named(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=rf'{missing} is missing.*pip install "jvrc\[tfds\]"'):
        tfds_source.open_tfds("photos")
