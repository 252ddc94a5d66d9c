"""Where decoded pixels go: into an array of the file's channels, window by window."""

import numpy as np

Shape = tuple[int, ...]  # [h,w] (grey), [h,w,3] or [h,w,4] (with alpha)


class Canvas:
    """Takes windows of RGB, and keeps them in an array of other channels.

    The array is made by the first window: not before a tile of the file was found to be intact.
    """

    def __init__(self, shape: Shape, grey: bool, out: np.ndarray | None = None) -> None:
        """grey: the image is the rounded mean of the channels. out: takes the pixels, [*shape]."""
        self._shape, self._grey, self._array = shape, grey, out

    def __setitem__(self, window: tuple[slice, slice], rgb: np.ndarray) -> None:
        found = to_grey(rgb) if self._grey else rgb
        if len(self._shape) == 2:
            self.array[window] = found
        else:
            self.array[(*window, slice(3))] = found[..., None] if self._grey else found

    @property
    def array(self) -> np.ndarray:
        """The image, uint8; its alpha is not set."""
        if self._array is None:
            self._array = np.empty(self._shape, np.uint8)
        return self._array


def to_grey(rgb: np.ndarray) -> np.ndarray:
    """Return the rounded mean of the three channels (FORMAT.md, section 7)."""
    return ((rgb.sum(axis=2, dtype=np.uint16) + np.uint16(1)) // np.uint16(3)).astype(np.uint8)


def to_rgb(pixels: np.ndarray) -> np.ndarray:
    """Return uint8 [H,W,3] of grey or RGB, without a copy."""
    return np.broadcast_to(pixels[..., None], (*pixels.shape, 3)) if pixels.ndim == 2 else pixels


def checked_out(out: np.ndarray, shape: Shape) -> np.ndarray:
    """Return an array that a caller gives for pixels; ValueError if they can't go there."""
    if not isinstance(out, np.ndarray) or out.dtype != np.uint8 or out.shape != shape:
        kind = f"{out.dtype} {list(out.shape)}" if isinstance(out, np.ndarray) else type(out)
        raise ValueError(f"out must be an array, uint8 {list(shape)} as the image, got {kind}")
    if not out.flags.writeable:
        raise ValueError("out must be writeable: open a memory-mapped file with mode 'r+' or 'w+'")
    return out
