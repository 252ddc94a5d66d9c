"""Two synthetic pictures, the second a damaged first, the same on every machine."""

import numpy as np


def pair(height: int, width: int, strength: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [height,width,3] twice; strength: of the noise, in grey levels."""
    rows, cols = np.mgrid[:height, :width]
    waves = [np.sin(cols / 17 + rows / 29), np.cos(cols / 7.3), np.sin(rows * cols / 900)]
    first = np.rint(128 + 90 * np.stack(waves, -1))
    noise = (rows * 7919 + cols * 104729 + rows * cols * 31) % (2 * strength + 1) - strength
    second = np.clip(first * 0.97 + noise[..., None] + 5, 0, 255)
    return first.astype(np.uint8), np.rint(second).astype(np.uint8)


CASES = ((192, 256, 4), (161, 163, 20), (333, 200, 40))
LARGE_CASES = ((256, 300, 4), (225, 333, 20), (321, 240, 40))  # large enough for SSIMULACRA 2
CURVES = {
    "five": [[0.12, 27.9], [0.25, 30.1], [0.5, 33.2], [0.9, 35.8], [1.6, 39.4]],
    "other": [[0.1, 27.5], [0.21, 30.0], [0.4, 32.6], [0.85, 36.1], [1.5, 39.0]],
    "short": [[0.3, 31.0], [0.55, 34.0], [1.1, 37.5]],
}
