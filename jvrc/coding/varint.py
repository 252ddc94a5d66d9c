"""Numbers of the file format: unsigned LEB128 varints below 2**32, signed ones by zigzag."""

from jvrc.errors import BitstreamError

_MAX_BYTES = 5
_LIMIT = 2**32


def write_varint(value: int) -> bytes:
    """Return the LEB128 bytes of a number in 0 ... 2**32 - 1; ValueError outside."""
    if not 0 <= value < _LIMIT:
        raise ValueError(f"varint must be in 0 ... 2**32 - 1, got {value}")
    out = bytearray()
    while value > 0x7F:
        out.append(0x80 | value & 0x7F)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes | memoryview, offset: int) -> tuple[int, int]:
    """Return a LEB128 number and the offset behind it.

    Raises:
      BitstreamError: it is cut off, exceeds 32 bits or has superfluous bytes.
    """
    value = 0
    for i, byte in enumerate(data[offset : offset + _MAX_BYTES]):
        value |= (byte & 0x7F) << 7 * i
        if byte & 0x80:
            continue
        if byte == 0 and i > 0:
            raise BitstreamError(f"damaged stream: padded varint at byte {offset}")
        if value >= _LIMIT:
            break
        return value, offset + i + 1
    if len(data) < offset + _MAX_BYTES:
        raise BitstreamError(f"truncated stream: a number is cut off after {len(data)} bytes")
    raise BitstreamError(f"damaged stream: varint at byte {offset} exceeds 32 bits")


def zigzag(value: int) -> int:
    """Return 2n for n >= 0 and -2n - 1 for n < 0."""
    return 2 * value if value >= 0 else -2 * value - 1


def unzigzag(number: int) -> int:
    """Return the signed integer of a zigzag number."""
    return number >> 1 ^ -(number & 1)
