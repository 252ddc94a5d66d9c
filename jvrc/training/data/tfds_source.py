"""The images of a TensorFlow data set (TFDS), read at random and without TensorFlow.

Only what is prepared on the disk is read: nothing is downloaded and no code of the data set runs.
Preparing one in the format array_record is up to TFDS, which mostly needs TensorFlow for that.
"""

import os
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from jvrc.io.images import as_rgb_uint8
from jvrc.runtime import extras
from jvrc.training.data import datasets

FORMAT = "array_record"  # the one that TFDS reads at random
HELD_OUT_FRACTION, HELD_OUT_MOST = 0.04, 64

_NAME = re.compile(r"(\w[\w/.=,-]*(?::\d+\.\d+\.\d+)?)(?::(.+))?")


def open_tfds(name: str, data_dir: str | Path | None = None) -> datasets.Dataset:
    """Return the images of a prepared data set; they may be read from any thread.

    Args:
      name: "NAME[:SPLIT]", as in "clic", "clic:train[:50%]" or, with a configuration and a
        version, "open_images_v4/original:2.0.0:train"; the split "train" by default. Images
        for validation are held out of it, chosen by a hash of their numbers.
      data_dir: where TFDS has prepared it; by default $TFDS_DATA_DIR or ~/tensorflow_datasets.

    Raises:
      ValueError: a name of another form, a data set that is unknown or not prepared as
        array_record, no such split, or no single feature that is an image. Later, from reading: a
        damaged image.
      ImportError: the extra `tfds` is not installed.
    """
    extras.require("tfds")
    import tensorflow_datasets as tfds

    name, split = parse_name(name)
    builder = _open_builder(tfds, name, data_dir)
    key, feature = _image_feature(tfds, builder.info.features, name)
    records = _open_split(tfds, builder, name, split)
    parser = tfds.features.FeaturesDict({key: feature})  # leaves all other features encoded
    encoded = {key: tfds.decode.SkipDecoding()}

    def read(i: int) -> np.ndarray:
        example = parser.deserialize_example_np(records[i], decoders=encoded)
        return _decode(example[key], f"{name}:{split}, image {i}")

    numbers = [str(i) for i in range(len(records))]
    train, held_out = datasets.split(numbers, HELD_OUT_FRACTION, HELD_OUT_MOST)
    return datasets.Dataset(datasets.Reader(read, train), datasets.Reader(read, held_out or train))


def parse_name(text: str) -> tuple[str, str]:
    """Return (`NAME[/CONFIG][:x.y.z]`, `SPLIT`) of `NAME[/CONFIG][:x.y.z][:SPLIT]`.

    Raises:
      ValueError: the text has another form.
    """
    match = _NAME.fullmatch(text)
    if not match:
        raise ValueError(
            f"a TFDS data set must be NAME[:SPLIT], as in clic:train[:50%]; got {text!r}"
        )
    return match[1], match[2] or "train"


def _open_builder(tfds: Any, name: str, data_dir: str | Path | None) -> Any:
    """Return the TFDS builder of a data set that is prepared already."""
    from tensorflow_datasets.core import read_only_builder

    folder = Path(data_dir).expanduser() if data_dir else None
    shown = folder or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    try:
        # tfds.builder would run the data set's code, and that may ask for TensorFlow
        builder = read_only_builder.builder_from_files(name, data_dir=folder)
    except tfds.core.DatasetNotFoundError as error:
        if re.split("[/:]", name)[0] not in tfds.list_builders(with_community_datasets=False):
            raise ValueError(
                f"TFDS data must be prepared before it is read; {name!r} is not in {shown}, and "
                "TFDS knows no data set of that name: tfds.list_builders() lists those it knows"
            ) from error
        where = f", data_dir={str(folder)!r}" if folder else ""
        raise ValueError(
            f"TFDS data must be prepared before it is read; {name!r} is not in {shown}: run "
            f"tfds.builder({name!r}{where}).download_and_prepare(file_format={FORMAT!r}) in "
            "Python after import tensorflow_datasets as tfds"
        ) from error
    formats = sorted(f.value for f in builder.info.available_file_formats())
    if FORMAT not in formats:
        raise ValueError(
            f"TFDS data must be prepared as {FORMAT} to be read at random; {name!r} in {shown} "
            f"is {', '.join(formats)}: prepare it with file_format={FORMAT!r} in another data_dir"
        )
    return builder


def _image_feature(tfds: Any, features: Any, name: str) -> tuple[str, Any]:
    """Return (key, feature) of the image in an example: "image", or the only image feature."""
    kinds = dict(features.items()) if isinstance(features, tfds.features.FeaturesDict) else {}
    images = {
        key: feature
        for key, feature in kinds.items()
        # TFDS stores images of floats as PNG files of their bits
        if isinstance(feature, tfds.features.Image) and np.dtype(feature.np_dtype).kind == "u"
    }
    if "image" not in images and len(images) != 1:
        raise ValueError(
            f"TFDS data must have a feature 'image', or just one of images; {name!r} has "
            f"{', '.join(sorted(images)) or 'none'} among {', '.join(sorted(kinds)) or 'no names'}"
        )
    key = "image" if "image" in images else next(iter(images))
    return key, images[key]


def _open_split(tfds: Any, builder: Any, name: str, split: str) -> Any:
    """Return a sequence of serialized examples."""
    raw = tfds.decode.DeserializeMethod.RAW_BYTES
    try:
        return builder.as_data_source(split, deserialize_method=raw, file_format=FORMAT)
    except (ValueError, AssertionError) as error:
        raise ValueError(
            f"the split must be of {', '.join(builder.info.splits)}, or a part that is not empty, "
            f"as in train[:50%]; got {split!r} of {name!r}"
        ) from error


def _decode(encoded: bytes, name: str) -> np.ndarray:
    """Decode an image to uint8 [H,W,3], as `read_image` does a file."""
    try:
        img = ImageOps.exif_transpose(Image.open(BytesIO(encoded)))
    except Exception as error:  # Pillow's readers raise all kinds on damaged files
        raise ValueError(f"{name}: damaged or unsupported image: {error}") from error
    return as_rgb_uint8(img)
