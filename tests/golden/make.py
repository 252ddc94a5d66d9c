"""Writes golden streams of format versions 2 and 3: once for each, never to make a test pass.

    python tests/golden/make.py --write

A stream made by a released version stays here for ever and must decode to the same symbols. The
tiny models have random weights: tiny-2026 (jvrc2026) is in v2, that with refined scales in v3, the
others are those of the streams of version 1. A stream of a shipped model needs its weights: once
released, they stay in the package beside their successors. Existing files are kept as they are.
"""

import argparse
import contextlib
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
from PIL import Image

import jvrc
from jvrc import demo
from jvrc.codec.alpha import with_alpha
from jvrc.codec.image.decoder import decode_symbols
from jvrc.codec.image.encoder import encode_image
from jvrc.coding import patch, range_coder
from jvrc.coding.container import GREY, MAX_TILE_SIDE, NO_STREAM, RGB, Container, Section, Tile
from jvrc.coding.metadata import write_metadata
from jvrc.coding.packing import pack
from jvrc.coding.tile_grid import BLOCK, Area
from jvrc.frozen.file import read_model
from jvrc.frozen.model import FrozenModel
from jvrc.io import images
from jvrc.qstep import qstep_code_of

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
import decode  # noqa: E402
import profiles  # noqa: E402
from small import always_refined, refined_2026, spread_2026  # noqa: E402


class Case(NamedTuple):
    """What is coded, and how."""

    weights: str  # of a tiny model: here or in tests/golden/v1
    shape: tuple[int, int]
    qstep: float
    tile_side: int
    lanes: int | None = None  # more than an encoder chooses, but its right
    sections: tuple[Section, ...] = ()
    grey: bool = False
    alpha: bool = False
    patched: int = 0  # every so many-th block of a tile; 1: all of them, and no streams
    metadata: tuple[bytes, bytes, bytes] = (b"", b"", b"")  # ICC profile, EXIF, XMP


CASES = {
    "one-pixel": Case("tiny-mean", (1, 1), 2.0, MAX_TILE_SIDE),
    "two-tiles": Case("tiny-scale", (1, 1100), 1.0, MAX_TILE_SIDE),
    "escapes": Case("tiny-mean", (130, 100), 0.5, 1, lanes=4),
    "sections": Case(
        *("tiny-linear", (70, 130), 1.37, 2, 64),
        sections=(Section(129, bytes(range(200))), Section(255, b""), Section(129, b"more")),
    ),
    "context": Case("tiny-context", (150, 129), 1.37, 2),
    "many-lanes": Case("tiny-context", (65, 64), 32.0, 1, lanes=4096),
    "scales": Case("tiny-scale", (100, 150), 4.0, 1),
    "steps": Case("tiny-2026", (130, 70), 1.37, 1),
    "steps-one-tile": Case("tiny-2026", (70, 100), 6.0, MAX_TILE_SIDE),
    "grey": Case(
        *("tiny-mean", (50, 40), 2.0, MAX_TILE_SIDE),
        grey=True,
        metadata=(profiles.grey(1.8), b"", b""),
    ),
    "alpha": Case(
        *("tiny-2026", (70, 130), 4.0, 1),
        alpha=True,
        metadata=(b"", bytes.fromhex("49492a0008000000000000000000"), b"<x:xmpmeta/>"),
    ),
    "grey-alpha": Case("tiny-2026", (9, 17), 4.0, MAX_TILE_SIDE, grey=True, alpha=True),
    "patched": Case("tiny-2026", (130, 200), 4.0, 2, patched=2),
    "patched-grey": Case("tiny-mean", (70, 66), 2.0, MAX_TILE_SIDE, patched=3, grey=True),
    "patched-all-over": Case("tiny-context", (70, 90), 2.0, 1, patched=1),
    "refined": Case("tiny-refined", (130, 70), 1.37, 1),
    "refined-one-tile": Case("tiny-refined", (200, 300), 6.0, MAX_TILE_SIDE),
    "refined-escapes": Case("tiny-refined", (64, 64), 0.5, 1, lanes=4096),
    "refined-patched": Case("tiny-refined", (130, 200), 4.0, 2, patched=2, alpha=True),
}
TINY = {
    "v2/tiny-2026": partial(spread_2026, z_scale=3.0, fold=2),
    "v3/tiny-refined": partial(refined_2026, z_scale=3.0),
}
PHOTO = Case("", (96, 128), 2.0, 1)  # of each shipped model, rows from 100, columns from 200


def image(height: int, width: int) -> np.ndarray:
    """A slope with noise, uint8 [H,W,3]."""
    rng = np.random.default_rng((height, width))
    slope = np.add.outer(np.arange(height) * 2, np.arange(width))[:, :, None] % 256
    return np.clip(slope + rng.integers(-40, 40, (height, width, 3)), 0, 255).astype(np.uint8)


def disc(height: int, width: int) -> np.ndarray:
    """An alpha: opaque where row + column < 64, beyond that in rings, uint8 [H,W]."""
    rows, columns = np.mgrid[:height, :width]
    return np.where(rows + columns < 64, 255, rows**2 // 16 + columns**2 // 9).astype(np.uint8)


def with_patches(coded: Container, img: np.ndarray, every: int) -> Container:
    """Patch every so many-th block of each tile of a coded image, beginning with the first."""
    tiles, whole = list(coded.tiles), Area(0, 0, *img.shape[:2])
    for number, tile in enumerate(tiles):
        area = coded.grid.area(number)
        blocks = np.arange(area.size[0] * area.size[1]).reshape(area.size) % every == 0
        data = patch.encode(img[area.scaled(BLOCK).common(whole).within(whole)], blocks)
        tiles[number] = Tile(False, NO_STREAM, NO_STREAM, data) if every == 1 else tile
        tiles[number] = tiles[number]._replace(patch=data)
    return coded._replace(tiles=tuple(tiles))


def write(name: str, model: FrozenModel, img: np.ndarray, case: Case) -> tuple[str, dict]:
    """One stream and what it decodes to: its folder, and its entry of golden.json."""
    with contextlib.ExitStack() as stack:
        if case.lanes:
            lanes = mock.patch.object(range_coder, "choose_lanes", return_value=case.lanes)
            stack.enter_context(lanes)
        if case.weights and model.refinement:
            stack.enter_context(always_refined())
        coded = encode_image(model, img, qstep_code_of(case.qstep), tile_side=case.tile_side)
    coded = with_patches(coded, img, case.patched) if case.patched else coded
    all_sections = (*case.sections, *write_metadata(*case.metadata))
    coded = coded._replace(sections=all_sections, channels=GREY if case.grey else RGB)
    data = pack(with_alpha(coded, disc(*img.shape[:2]) if case.alpha else None))
    folder = f"v{coded.version}"
    (HERE / folder / f"{name}.jvrc").write_bytes(data)
    png = HERE / folder / f"{name}.png"
    Image.fromarray(jvrc.decompress(model, data)).save(png, optimize=True)
    entry = {"tiles": len(coded.tiles)}
    entry["sections"] = [[kind, payload.hex()] for kind, payload in all_sections]
    if any(case.metadata):
        entry["metadata"] = [part.hex() for part in case.metadata]
    return folder, entry | decode.hashes(*decode_symbols(model, data))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", required=True)
    parser.parse_args()
    indices = {version: HERE / version / "golden.json" for version in ("v2", "v3")}
    entries = {v: json.loads(p.read_text()) if p.exists() else {} for v, p in indices.items()}
    done = {name for found in entries.values() for name in found}

    def add(name: str, weights: Path | str, model: FrozenModel, img: np.ndarray, case: Case):
        folder, entry = write(name, model, img, case)
        if isinstance(weights, Path):
            weights = os.path.relpath(weights, HERE / folder)
        entries[folder][name] = entry | {"weights": weights}

    for name, make in TINY.items():
        if not (path := HERE / f"{name}.safetensors").exists():
            make(path)
    for name in CASES.keys() - done:
        case = CASES[name]
        (path,) = HERE.glob(f"v*/{case.weights}.safetensors")
        img = image(*case.shape)
        img = np.repeat(img[..., :1], 3, axis=2) if case.grey else img
        add(name, path, read_model(path), img, case)
    photo = images.read_image(demo.bundled_photo())[100:196, 200:328]
    for weights in jvrc.models():
        model = jvrc.load(weights)
        ids = [i for i in (model.model_id, model.refinement_id) if i]
        if (name := "-".join([weights, *ids])) not in done:
            add(name, weights, model, photo, PHOTO)
    for version, path in indices.items():
        path.write_text(json.dumps(entries[version], indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
