"""Tiles that are no photographs: text, screens, dither, patterns, noise and the like.

A model that sees photographs alone gives such tiles absurd scales, of up to 20 bits a pixel. A few
of them among the crops keep it sane. Tile i of a seed is a function of (seed, i) and of the
photograph that is dithered, enlarged or drawn upon. All are uint8 [size,size,3].
"""

import functools
import string
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_LETTERS = list(string.ascii_letters + string.digits + ".,;:-()")
_TEXT_SIZES = (8, 9, 10, 11, 12, 13, 14, 16, 18, 20, 24, 32, 48)  # pixels
Colour = tuple[int, int, int]


def tile(rng: np.random.Generator, kind: int, photo: np.ndarray) -> np.ndarray:
    """Return one tile of a kind, a number that is taken modulo the number of KINDS.

    photo: uint8 [size,size,3].
    """
    return KINDS[kind % len(KINDS)](rng, photo)


def tiles(photos: Sequence[np.ndarray], count: int, seed: int, *, size: int) -> np.ndarray:
    """Return `count` tiles, uint8 [count,size,size,3], of all kinds in turn.

    photos: at least size x size each; tile i uses a part of photo i, modulo their number.
    """

    def one(i: int) -> np.ndarray:
        rng, photo = np.random.default_rng((seed, i)), photos[i % len(photos)]
        top, left = (rng.integers(n - size + 1) for n in photo.shape[:2])
        return tile(rng, i, photo[top : top + size, left : left + size])

    return np.stack([one(i) for i in range(count)])


def text(rng: np.random.Generator, photo: np.ndarray) -> np.ndarray:
    """Return lines of random words on a plain background, three times in ten on the photograph."""
    ink, paper = _colours(rng)
    on_photo = rng.random() < 0.3
    image = Image.fromarray(photo) if on_photo else Image.new("RGB", photo.shape[1::-1], paper)
    draw, y = ImageDraw.Draw(image), int(rng.integers(0, 20))
    while y < len(photo):
        size = int(rng.choice(_TEXT_SIZES))
        for _ in range(rng.integers(1, 6)):
            place = (int(rng.integers(0, 30)), y)
            draw.text(place, _words(rng, 20), fill=ink, font=_font(size))
            y += int(size * rng.uniform(1.0, 1.6))
        y += int(rng.integers(0, 20))
    return np.asarray(image)


def screen(rng: np.random.Generator, photo: np.ndarray) -> np.ndarray:
    """Return windows, lines, buttons, labels and parts of the photograph, one above the other."""
    height, width = photo.shape[:2]
    image = Image.new("RGB", (width, height), _colours(rng)[1])
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(4, 20)):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        w, h = int(rng.integers(4, width // 2)), int(rng.integers(4, height // 2))
        ink, paper = _colours(rng)
        box, shape = (x, y, x + w, y + h), rng.random()
        if shape < 0.6:
            draw.rectangle(box, fill=paper, outline=ink if rng.random() < 0.5 else None)
        elif shape < 0.75:
            draw.line(box, fill=ink, width=int(rng.integers(1, 4)))
        elif shape < 0.9:
            draw.ellipse(box, fill=paper, outline=ink)
        else:
            image.paste(Image.fromarray(photo[:h, :w]), (x, y))
        if rng.random() < 0.6:
            font = _font(int(rng.integers(9, 18)))
            draw.text((x + 3, y + 2), _words(rng, 4), fill=ink, font=font)
    return np.asarray(image)


def dither(rng: np.random.Generator, photo: np.ndarray) -> np.ndarray:
    """Return the photograph in black and white or in few colours, mostly dithered."""
    image, kind = Image.fromarray(photo), rng.random()
    if kind < 0.35:
        image = image.convert("1")
    elif kind < 0.5:
        threshold = int(rng.integers(60, 200))
        image = image.convert("L").point([255 * (value > threshold) for value in range(256)])
    else:
        method = Image.Dither.FLOYDSTEINBERG if rng.random() < 0.5 else Image.Dither.NONE
        image = image.quantize(int(2 ** rng.integers(1, 7)), dither=method)
    return np.asarray(image.convert("RGB"))


def pattern(rng: np.random.Generator, photo: np.ndarray) -> np.ndarray:
    """Return a chessboard, stripes or rings of 1 to 16 pixels in two colours."""
    height, width = photo.shape[:2]
    row, column = np.mgrid[:height, :width]
    p, q = rng.integers(1, 17, 2)
    rings = np.hypot(row - height / 2, column - width / 2) // p
    choices = (row // p + column // q, row // p, column // q, (row + column) // p, rings)
    on = choices[rng.integers(len(choices))].astype(int) % 2 == 1
    return np.where(on[..., None], *(np.uint8(colour) for colour in _colours(rng)))


def noise(rng: np.random.Generator, photo: np.ndarray) -> np.ndarray:
    """Return uniform or Gaussian noise, grey or in colour, alone or on the photograph."""
    shape = (*photo.shape[:2], 3 if rng.random() < 0.5 else 1)
    if rng.random() < 0.4:
        values = rng.uniform(0, 256, shape)
    else:
        values = rng.normal(128, rng.uniform(5, 80), shape)
    if rng.random() < 0.4:
        values = photo + values - 128
    return np.broadcast_to(np.clip(values, 0, 255), photo.shape).astype(np.uint8)


def enlarged(rng: np.random.Generator, photo: np.ndarray) -> np.ndarray:
    """Return a part of the photograph, each pixel as a square of 2 to 8 pixels."""
    factor, (height, width) = int(rng.integers(2, 9)), photo.shape[:2]
    part = photo[: -(-height // factor), : -(-width // factor)]
    return part.repeat(factor, 0).repeat(factor, 1)[:height, :width]


def contrast(rng: np.random.Generator, photo: np.ndarray) -> np.ndarray:
    """Return the photograph at a harsh contrast, negative or with its channels exchanged."""
    values = (photo.astype(np.float32) - 128) * rng.uniform(1.5, 6) + rng.uniform(68, 188)
    values = np.clip(values, 0, 255)
    changed = 255 - values if rng.random() < 0.3 else values[..., rng.permutation(3)]
    return changed.astype(np.uint8)


KINDS: tuple[Callable[[np.random.Generator, np.ndarray], np.ndarray], ...] = (
    *(text, screen, dither, pattern, text, screen),
    *(noise, enlarged, contrast),
)


def _colours(rng: np.random.Generator) -> tuple[Colour, Colour]:
    """Return (ink, paper): mostly dark on light or light on dark, often black and white."""
    ink, paper = rng.integers(0, 256, (2, 3))
    if rng.random() < 0.7:
        ink, paper = rng.integers(0, 70, 3), rng.integers(190, 256, 3)
        if rng.random() < 0.4:
            ink, paper = np.zeros(3, int), np.full(3, 255)
        if rng.random() < 0.4:
            ink, paper = paper, ink
    return tuple(map(int, ink)), tuple(map(int, paper))


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def _words(rng: np.random.Generator, count: int) -> str:
    return " ".join("".join(rng.choice(_LETTERS, rng.integers(1, 11))) for _ in range(count))
