"""Escape values: integers outside their CDF table, as zigzag LEB128 numbers (FORMAT.md, section 3).

The range coder codes such an integer as its table's escape code, and the integer itself follows
here, in the order of the symbols. The varints are those of the header (jvrc.coding.varint),
canonical and below 2**32. All is vectorised: escapes are rare in images, but a hostile stream may
hold nothing else.
"""

import numpy as np

from jvrc.errors import BitstreamError

LIMIT = 2**20  # largest magnitude of a stream's integers, far beyond that of any latent
_MAX_BYTES = 5
_INT32 = np.iinfo(np.int32)


def pack_escapes(values: np.ndarray) -> bytes:
    """Return the bytes of an int array of any shape, in C order; ValueError outside int32."""
    values = np.asarray(values).ravel()
    if values.size == 0:
        return b""
    if values.dtype.kind not in "iu":
        raise ValueError(f"values must be integers, got dtype {values.dtype}")
    if values.min() < _INT32.min or values.max() > _INT32.max:
        raise ValueError(f"values must fit int32, got {values.min()} ... {values.max()}")
    signed = values.astype(np.int64)
    numbers = (signed << 1) ^ (signed >> 63)  # zigzag
    groups = numbers[:, None] >> 7 * np.arange(_MAX_BYTES)  # each byte has the lowest 7 bits of one
    needed = groups > 0
    needed[:, 0] = True
    more = np.zeros_like(needed)  # the top bit: another byte follows
    more[:, :-1] = needed[:, 1:]
    return ((groups & 0x7F) | more << 7).astype(np.uint8)[needed].tobytes()


def unpack_escapes(data: bytes) -> np.ndarray:
    """Return the int32 values, however many; BitstreamError if the bytes hold anything else."""
    octets = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(octets < 0x80) + 1
    if octets.size and octets[-1] >= 0x80:
        raise BitstreamError("damaged stream: last escape value cut off")
    if ends.size == 0:
        return np.zeros(0, np.int32)
    starts = np.concatenate([[0], ends[:-1]])
    lengths = ends - starts
    if lengths.max() > _MAX_BYTES or np.any((octets[ends - 1] == 0) & (lengths > 1)):
        raise BitstreamError("damaged stream: escape value too long or padded")
    places = np.arange(octets.size) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((octets & 0x7F).astype(np.int64) << 7 * places, starts)
    if numbers.max() >= 2**32:
        raise BitstreamError("damaged stream: escape value exceeds 32 bits")
    return ((numbers >> 1) ^ -(numbers & 1)).astype(np.int32)


def check_limit(values: np.ndarray) -> None:
    """Raise BitstreamError unless all values, int [n], are within -LIMIT ... LIMIT."""
    if values.size and not -LIMIT <= values.min() <= values.max() <= LIMIT:
        raise BitstreamError(f"damaged stream: a value beyond {LIMIT}")
