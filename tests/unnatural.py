"""Images that are no photographs: text, screens, dither, patterns and noise."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE = 256  # pixels
WORDS = ["The", "quick", "brown", "fox", "jumps", "over", "lazy", "dogs", "0123456789", "(x+y)*z;"]


def text(size, ink, paper, seed=0):
    """Return lines of words."""
    img = Image.new("RGB", (SIDE, SIDE), paper)
    draw, font, rng = ImageDraw.Draw(img), ImageFont.load_default(size), np.random.default_rng(seed)
    for y in range(2, SIDE, round(1.3 * size)):
        draw.text((3, y), " ".join(rng.choice(WORDS, 40)), fill=ink, font=font)
    return np.asarray(img)


def dither(photo):
    """Return black and white pixels (Floyd-Steinberg)."""
    return np.asarray(Image.fromarray(photo[:SIDE, :SIDE]).convert("1").convert("RGB"))


def pattern(name):
    """Return stripes, squares or steps of grey."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    grey = {
        "stripes": 255 * (columns % 2),
        "wide stripes": 255 * (rows // 3 % 2),
        "checkerboard": 255 * ((rows + columns) % 2),
        "squares": 255 * ((rows // 8 + columns // 8) % 2),
        "steps": 16 * (columns // 16),
    }[name]
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


def screen(seed=0):
    """Return flat rectangles of any colour, with captions."""
    rng, img = np.random.default_rng(seed), Image.new("RGB", (SIDE, SIDE), (240, 240, 240))
    draw = ImageDraw.Draw(img)
    for _ in range(12):
        (x, y), (w, h), colour = (
            rng.integers(0, SIDE, 2),
            rng.integers(8, 100, 2),
            rng.integers(256, size=3),
        )
        draw.rectangle([x, y, x + w, y + h], fill=tuple(map(int, colour)), outline=(0, 0, 0))
        draw.text((x + 3, y + 3), str(rng.choice(WORDS)), fill=(0, 0, 0))
    return np.asarray(img)


def drawings(photo):
    """Return images of many kinds by name, uint8 [256,256,3]; photo: to dither, uint8 [H,W,3]."""
    rng = np.random.default_rng(0)
    sparse = np.where(rng.uniform(size=(SIDE, SIDE, 1)) < 0.02, 255, 0).repeat(3, axis=2)
    return {
        "small text": text(9, (0, 0, 0), (255, 255, 255)),
        "light text on dark": text(14, (230, 230, 230), (20, 20, 40), 1),
        "coloured text": text(20, (200, 0, 0), (255, 255, 0), 2),
        "dither": dither(photo),
        "screen": screen(),
        "sparse noise": sparse.astype(np.uint8),
        "noise": rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8),
        "grey noise": rng.integers(0, 256, (SIDE, SIDE, 1), dtype=np.uint8).repeat(3, axis=2),
        **{
            name: pattern(name)
            for name in ("stripes", "wide stripes", "checkerboard", "squares", "steps")
        },
    }
