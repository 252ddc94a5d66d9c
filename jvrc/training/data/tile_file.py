"""Training files: the tiles of many images in one file that is mapped into memory.

A file is a safetensors file, `jvrc pack` writes it:

  tiles     uint8 [n,T,T,3]    of training images and of smaller versions of them, then tiles that
                               are no photographs (jvrc.training.data.unnatural), as many as the
                               metadata's `unnatural` says
  weights   float32 [n]        of photographs: how often each is drawn; 0 for other tiles
  held_out  uint8 [h,T,T,3]    the centres of held-out images, which have no tile above
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from jvrc.io.files import check_writable, replacing
from jvrc.training.data import batches, datasets, unnatural

FORMAT = "jvrc-tiles-1"
_HEADER = 4096  # bytes before the tiles; their number is known last
_IMAGE_POWER = 0.25  # an image of k tiles is drawn k^0.25 times as often as one of a single tile
_HELD_OUT = 64  # at most
_TOGETHER = 4  # images in memory at a time


class Tiling(NamedTuple):
    """How images become tiles."""

    side: int = 512  # of a tile
    stride: int = 384  # from a tile to the next one, at most
    scales: tuple[float, ...] = (1.0, 0.5)  # of the versions of an image
    unnatural: int = 288  # tiles that are no photographs


class Tiles(Sequence):
    """The tiles of photographs, uint8 [T,T,3] each, and all tiles as one mapped array."""

    def __init__(self, array: np.ndarray, weights: np.ndarray) -> None:
        """array: uint8 [n,T,T,3]. weights: float32 [n], 0 for tiles that are no photographs."""
        self.array, self.weights = array, weights
        self._photos = int(np.count_nonzero(weights))

    def __len__(self) -> int:
        return self._photos

    def __getitem__(self, i: int) -> np.ndarray:
        if not -len(self) <= i < len(self):
            raise IndexError(f"there are {len(self)} tiles; got {i}")
        return self.array[i % len(self)]

    def chances(self, unnatural_share: float) -> np.ndarray:
        """Return the cumulative probability of each tile to be drawn, float32 [n]."""
        photos, others = self.weights.astype(np.float64), self.weights == 0
        share = unnatural_share if others.any() else 0.0
        each = (1 - share) * photos / photos.sum() + share * others / max(1, others.sum())
        return np.minimum(np.cumsum(each), 1.0).astype(np.float32)


def is_tile_file(path: str | Path) -> bool:
    """Return True for a file, which --data then takes for a training file; folders have images."""
    return Path(path).is_file()


def open_tiles(path: str | Path) -> datasets.Dataset:
    """Return the training tiles (`Tiles`) and the held-out images of a file, mapped.

    Raises:
      ValueError: not a training file, or an incomplete one.
    """
    path = Path(path)
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(min(length, _HEADER)))
            if header.pop("__metadata__")["format"] != FORMAT:
                raise ValueError("another format")
            arrays = {name: _mapped(path, 8 + length, entry) for name, entry in header.items()}
            return datasets.Dataset(Tiles(arrays["tiles"], arrays["weights"]), arrays["held_out"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path}: not a training file of `jvrc pack`, or not all of one"
            ) from error


def pack(
    images: datasets.Dataset, path: str | Path, tiling: Tiling, *, progress: bool = True
) -> int:
    """Write the training file of images and return the number of its tiles.

    The file appears complete or not at all. A few images are in memory at a time.

    Images that cannot be read are left out; a warning says how many are smaller than a tile.

    Raises:
      ValueError: tiling is no tiling, or no image can be read.
      OSError: the file can't be written.
    """
    _check(tiling)
    check_writable(path)
    weights, some, sides = [], [], []
    with replacing(Path(os.path.realpath(path))) as temporary, temporary.open("xb") as file:
        file.write(bytes(_HEADER))
        for side, tiles in _tiles_of_all(images.train, tiling, progress):
            file.writelines(memoryview(np.ascontiguousarray(t)).cast("B") for t in tiles)
            weights += [len(tiles) ** (_IMAGE_POWER - 1)] * len(tiles)
            sides.append(side)
            if len(some) < _HELD_OUT:
                some.append(np.array(tiles[len(some) % len(tiles)]))
        if not some:
            raise ValueError("images to pack must be readable; got none that is: replace them")
        for i in range(tiling.unnatural):
            rng = np.random.default_rng((_HELD_OUT, i))
            file.write(unnatural.tile(rng, i, some[i % len(some)]).tobytes())
        weights += [0.0] * tiling.unnatural
        held_out = batches.centres(images.held_out, size=tiling.side, limit=_HELD_OUT)
        file.write(np.array(weights, "<f4").tobytes())
        file.write(held_out.tobytes())
        file.seek(0)
        file.write(_header(tiling, len(weights), len(held_out)))
    batches.announce_small(sides, tiling.side, parts="tiles", option="--side")
    return len(weights)


def tiles_of(img: np.ndarray, tiling: Tiling) -> list[np.ndarray]:
    """Return the tiles of an image [H,W,3], and of its smaller versions, unless less than a tile.

    They cover the image. A smaller image than a tile is repeated at its edges.
    """
    tiles = []
    for scale in tiling.scales:
        height, width = (round(scale * n) for n in img.shape[:2])
        if scale == 1:
            tiles += _cut(batches.pad_to(img, tiling.side), tiling)
        elif min(height, width) >= tiling.side:
            smaller = Image.fromarray(img).resize((width, height), Image.Resampling.LANCZOS)
            tiles += _cut(np.asarray(smaller), tiling)
    return tiles


def _cut(img: np.ndarray, tiling: Tiling) -> list[np.ndarray]:
    """Return the tiles of one version of an image, at equal distances."""

    def starts(length: int) -> np.ndarray:
        beyond = length - tiling.side
        return np.linspace(0, beyond, 1 + -(-beyond // tiling.stride)).round().astype(int)

    side = tiling.side
    rows, columns = (starts(n) for n in img.shape[:2])
    return [img[r : r + side, c : c + side] for r in rows for c in columns]


def _tiles_of_all(
    images: Sequence[np.ndarray], tiling: Tiling, progress: bool
) -> Iterator[tuple[int, list[np.ndarray]]]:
    """Yield (shorter side, tiles) of each image that can be read; several threads read."""

    def tiles(i: int) -> list[tuple[int, list[np.ndarray]]]:
        read = datasets.read_each(images, [i])
        return [(min(img.shape[:2]), tiles_of(img, tiling)) for img in read]

    bar = tqdm(total=len(images), desc="packing", unit="img", disable=not progress)
    with bar, ThreadPoolExecutor(_TOGETHER) as pool:
        for some in _groups(range(len(images)), _TOGETHER):
            for found in pool.map(tiles, some):
                yield from found
                bar.update()


def _groups(items: Iterable[int], size: int) -> Iterator[list[int]]:
    """Yield the items in lists of at most `size`."""
    rest = iter(items)
    while group := list(islice(rest, size)):
        yield group


def _check(tiling: Tiling) -> None:
    """Raise ValueError if a field breaks its rule."""
    rules: dict[str, tuple[Callable[[Any], bool], str]] = {
        "side": (lambda v: v >= 64, "at least 64"),
        "stride": (lambda v: 1 <= v <= tiling.side, f"in 1 … {tiling.side}, the side of a tile"),
        "scales": (lambda v: 1 in v and all(0 < s <= 1 for s in v), "in (0, 1], and 1 among them"),
        "unnatural": (lambda v: v >= 0, "at least 0"),
    }
    for name, (holds, text) in rules.items():
        value = getattr(tiling, name)
        if not holds(value):
            raise ValueError(f"{name} must be {text}; got {value}")


def _header(tiling: Tiling, tiles: int, held_out: int) -> bytes:
    """Return the length and the JSON text that safetensors begin with, _HEADER bytes."""
    side, end = tiling.side, 0
    header: dict[str, Any] = {"__metadata__": {"format": FORMAT, **_texts(tiling)}}
    for name, dtype, shape in (
        ("tiles", "U8", [tiles, side, side, 3]),
        ("weights", "F32", [tiles]),
        ("held_out", "U8", [held_out, side, side, 3]),
    ):
        begin, end = end, end + int(np.prod(shape)) * (4 if dtype == "F32" else 1)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode().ljust(_HEADER - 8)
    return len(text).to_bytes(8, "little") + text


def _texts(tiling: Tiling) -> dict[str, str]:
    return {name: json.dumps(value) for name, value in tiling._asdict().items()}


def _mapped(path: Path, start: int, entry: dict) -> np.ndarray:
    """Return an array of the file as it is, by its entry in the header."""
    dtype = np.dtype({"U8": "u1", "F32": "<f4"}[entry["dtype"]])
    begin = start + entry["data_offsets"][0]
    return np.memmap(path, dtype, "r", begin, tuple(entry["shape"]))
