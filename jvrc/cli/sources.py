"""What training and freezing begin with: the images, and the model that a run goes on from."""

import argparse
import sys
from pathlib import Path
from typing import Any

from jvrc.cli.common import library
from jvrc.runtime import devices, extras


def load_training(*, distributed: bool = False) -> None:
    """Import JAX, with its compilation cache, and check that the extra `train` is there.

    distributed: join the other processes first.
    """
    if distributed:
        _join_processes()
    library()
    extras.require("train")


def _join_processes() -> None:
    """Join the other processes of a run: JAX has to before it looks for devices."""
    import jax

    jax.distributed.initialize()
    devices.check()


def images_of(args: argparse.Namespace) -> Any:
    """Return the data set that --data or --tfds names."""
    from jvrc.training.data import tfds_source

    if args.tfds:
        return tfds_source.open_tfds(args.tfds, args.tfds_dir)
    return opened(args.data)


def opened(path: Path) -> Any:
    """Return the data set of a folder of images, or of a file of `jvrc pack`."""
    from jvrc.training.data import datasets, tile_file

    if tile_file.is_tile_file(path):
        return tile_file.open_tiles(path)
    return datasets.open_folder(path)


def print_skipped(images: Any) -> None:
    """Print a line for each image that could not be read."""
    skipped = [getattr(part, "skipped", {}) for part in images]  # a packed file has none
    for reason in (skipped[0] | skipped[1]).values():
        print(f"skipped: {reason}", file=sys.stderr)


def read_source(path: Path) -> Any:
    """Return the model to begin with that --from or --transforms-from names."""
    from jvrc.interop import prototype
    from jvrc.training import warm_start

    if prototype.is_prototype(path):
        return warm_start.Source(*prototype.read_prototype(path), f"parameters {path.name}")
    return warm_start.read_source(path)
