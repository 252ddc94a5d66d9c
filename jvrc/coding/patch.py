"""The patch of a tile: pixels that are coded without the model, and without loss (FORMAT.md, 7.3).

Some of the tile's blocks of 64x64 pixels are patched; the patch states which, and their pixels.
"""

import numpy as np

from jvrc.coding import webp
from jvrc.coding.container import Container
from jvrc.coding.tile_grid import BLOCK, blocks_of
from jvrc.errors import BitstreamError

_QUALITY = 90  # of the search of the WebP encoder; 100 takes five times as long, for 1 %


def encode(pixels: np.ndarray, blocks: np.ndarray) -> bytes:
    """Return the patch of a tile: lossless WebP of the blocks named, with the rest filled.

    pixels: uint8 [h,w,3] of the tile, as far as it lies within the image. blocks: bool
    [rows,columns], which blocks to patch, at least one.
    """
    inside = samples_of(blocks)[: pixels.shape[0], : pixels.shape[1]]
    image = np.where(inside[..., None], pixels, _most_frequent(pixels[inside]))
    return np.packbits(blocks.ravel(), bitorder="little").tobytes() + webp.encode(image, _QUALITY)


def decode(data: bytes, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (pixels, blocks) of the patch of a tile of so many pixels within the image.

    pixels: uint8 [h,w,3], of no meaning where no block is patched. blocks: bool [rows,columns].

    Raises:
      BitstreamError: data is damaged, or of another size; that is checked before it is decoded.
    """
    blocks = blocks_in(data, blocks_of(height, width))
    return webp.decode(data[_bytes_of(blocks.size) :], height, width), blocks


def blocks_in(data: bytes, size: tuple[int, int]) -> np.ndarray:
    """Return which blocks of a tile are patched, bool [rows,columns]; size: (rows, columns).

    Raises:
      BitstreamError: data is too short, patches no block, or blocks that the tile does not have.
    """
    count = size[0] * size[1]
    bits = np.unpackbits(np.frombuffer(data[: _bytes_of(count)], np.uint8), bitorder="little")
    if len(bits) < count or not bits.any() or bits[count:].any():
        raise BitstreamError(f"damaged stream: a patch of a tile of {size[0]} x {size[1]} blocks")
    return bits[:count].astype(bool).reshape(size)


def patched_blocks(coded: Container) -> tuple[int, int]:
    """Return how many blocks of an image are patched, and how many it has; decodes no pixels.

    Raises:
      BitstreamError: a tile is damaged.
    """
    found = (
        int(blocks_in(tile.patch, coded.grid.area(number).size).sum())
        for number, tile in enumerate(coded.tiles)
        if tile.patch
    )
    rows, columns = coded.grid.blocks
    return sum(found), rows * columns


def samples_of(blocks: np.ndarray) -> np.ndarray:
    """Return for each pixel [64*rows,64*columns] what stands for its block [rows,columns]."""
    return blocks.repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)


def packed_colours(colours: np.ndarray) -> np.ndarray:
    """Return colours, uint8 [...,3], as one number each, int32 [...]."""
    wide = colours.astype(np.int32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def _most_frequent(colours: np.ndarray) -> np.ndarray:
    """Return the colour [3] that uint8 [n,3] has most often: fill that adds none to a palette."""
    _, first, counts = np.unique(packed_colours(colours), return_index=True, return_counts=True)
    return colours[first[np.argmax(counts)]]


def _bytes_of(blocks: int) -> int:
    return -(-blocks // 8)
