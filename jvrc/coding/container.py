"""The container: a header, the sections of two streams and a checksum (FORMAT.md, section 1).

Files of a released version stay readable: any change of these bytes is a new format version.
"""

import zlib
from typing import NamedTuple

from jvrc.errors import BitstreamError

MAGIC = b"JVRC"
VERSION = 1
MAX_PIXELS = 2**27
BLOCK = 64  # pixels; images are coded padded to multiples of it
MAX_LANES_LOG2 = 12
CRC_BYTES = 4

_MODEL_ID_START = 5
_MODEL_ID_END = 9
_VARINT_BYTES = 5
_VARINT_LIMIT = 2**32


def coded_pixels(height: int, width: int) -> int:
    """Return the pixels of an image padded to whole blocks, which memory and time grow with."""
    return -(-height // BLOCK) * -(-width // BLOCK) * BLOCK**2


class Stream(NamedTuple):
    """The coded integers of one latent, y or z."""

    words: bytes  # what range_coder.encode returned: final states, then 16-bit words
    escapes: bytes  # the values outside the tables (jvrc.coding.escapes)
    lanes: int  # interleaved lanes of the range coder, a power of two, 1 ... 4096


class Container(NamedTuple):
    """The contents of a file."""

    model_id: str  # eight hex digits
    height: int  # pixels, >= 1
    width: int  # pixels, >= 1
    qstep_code: int  # see jvrc.qstep
    scale_adapted: bool  # the z stream ends with index shifts (jvrc.coding.scale_adaptation)
    z: Stream
    y: Stream


class _StreamSizes(NamedTuple):
    """A stream's description in the header."""

    lanes_log2: int
    words: int  # bytes
    escapes: int  # bytes


def write_varint(value: int) -> bytes:
    """Return the LEB128 bytes of a number in 0 ... 2**32 - 1; ValueError outside."""
    if not 0 <= value < _VARINT_LIMIT:
        raise ValueError(f"varint must be in 0 ... 2**32 - 1, got {value}")
    out = bytearray()
    while value > 0x7F:
        out.append(0x80 | value & 0x7F)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, offset: int) -> tuple[int, int]:
    """Return a LEB128 number and the offset behind it.

    Raises:
      BitstreamError: it is cut off, exceeds 32 bits or has superfluous bytes.
    """
    value = 0
    for i, byte in enumerate(data[offset : offset + _VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * i
        if byte & 0x80:
            continue
        if byte == 0 and i > 0:
            raise BitstreamError(f"damaged stream: padded varint at byte {offset}")
        if value >= _VARINT_LIMIT:
            break
        return value, offset + i + 1
    if len(data) < offset + _VARINT_BYTES:
        raise BitstreamError(_cut_header(data))
    raise BitstreamError(f"damaged stream: varint at byte {offset} exceeds 32 bits")


def pack(container: Container) -> bytes:
    """Return the bytes of a file; ValueError if a field can't be stored."""
    model_id, height, width, qstep_code, scale_adapted, z, y = container
    if height < 1 or width < 1:
        raise ValueError(f"height and width must be at least 1, got {height} and {width}")
    parts = (
        MAGIC,
        bytes([VERSION]),
        _model_id_bytes(model_id),
        write_varint(height),
        write_varint(width),
        write_varint(2 * _zigzag(qstep_code) + scale_adapted),
        _stream_header(z),
        _stream_header(y),
        z.words,
        z.escapes,
        y.words,
        y.escapes,
    )
    body = b"".join(parts)
    return body + zlib.crc32(body).to_bytes(CRC_BYTES, "little")


def unpack(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Container:
    """Return the contents of a file.

    Allocates no more than a copy of `data`: the sizes that the header claims are checked first.

    Raises:
      BitstreamError: the bytes are no intact file of a known version, or the image, padded to
        whole blocks of 64x64 pixels, has more than `max_pixels` pixels.
    """
    data = _as_bytes(data)
    _check_kind(data)
    model_id = data[_MODEL_ID_START:_MODEL_ID_END].hex()
    height, offset = read_varint(data, _MODEL_ID_END)
    width, offset = read_varint(data, offset)
    number, offset = read_varint(data, offset)
    z, offset = _read_stream_header(data, offset)
    y, offset = _read_stream_header(data, offset)
    lengths = (z.words, z.escapes, y.words, y.escapes)
    _check_length(data, offset + sum(lengths) + CRC_BYTES)
    _check_crc(data)
    _check_dimensions(height, width, max_pixels)
    sections = []
    for length in lengths:
        sections.append(data[offset : offset + length])
        offset += length
    return Container(
        model_id=model_id,
        height=height,
        width=width,
        qstep_code=_unzigzag(number >> 1),
        scale_adapted=bool(number & 1),
        z=Stream(words=sections[0], escapes=sections[1], lanes=_lanes(z)),
        y=Stream(words=sections[2], escapes=sections[3], lanes=_lanes(y)),
    )


def _as_bytes(data: bytes) -> bytes:
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"data must be bytes, got {type(data).__name__}; read the file with 'rb'")
    return bytes(data)


def _model_id_bytes(model_id: str) -> bytes:
    try:
        raw = bytes.fromhex(model_id)
    except ValueError:
        raw = b""
    if len(raw) != 4 or raw.hex() != model_id:
        raise ValueError(f"model_id must be eight lower-case hex digits, got {model_id!r}")
    return raw


def _zigzag(value: int) -> int:
    return 2 * value if value >= 0 else -2 * value - 1


def _unzigzag(number: int) -> int:
    return number >> 1 ^ -(number & 1)


def _stream_header(stream: Stream) -> bytes:
    lanes_log2 = stream.lanes.bit_length() - 1
    if stream.lanes != 1 << max(lanes_log2, 0) or lanes_log2 > MAX_LANES_LOG2:
        limit = 1 << MAX_LANES_LOG2
        raise ValueError(f"lanes must be a power of two in 1 ... {limit}, got {stream.lanes}")
    sizes = write_varint(len(stream.words)) + write_varint(len(stream.escapes))
    return bytes([lanes_log2]) + sizes


def _read_stream_header(data: bytes, offset: int) -> tuple[_StreamSizes, int]:
    if offset >= len(data):
        raise BitstreamError(_cut_header(data))
    words, end = read_varint(data, offset + 1)
    escapes, end = read_varint(data, end)
    return _StreamSizes(data[offset], words, escapes), end


def _cut_header(data: bytes) -> str:
    return f"truncated stream: it ends within the header, after {len(data)} bytes"


def _check_kind(data: bytes) -> None:
    if not data:
        raise BitstreamError("empty stream: no bytes at all")
    if not data.startswith(MAGIC):
        if MAGIC.startswith(data):
            raise BitstreamError(f"truncated stream: only {len(data)} bytes")
        raise BitstreamError(f"not a jvrc stream: it starts with {data[:4]!r}, not with {MAGIC!r}")
    if len(data) < _MODEL_ID_END:
        raise BitstreamError(f"truncated stream: only {len(data)} bytes")
    version = data[len(MAGIC)]
    if version > VERSION:
        raise BitstreamError(
            f"the stream has format version {version}, this library reads up to {VERSION}: "
            "upgrade jvrc"
        )
    if version != VERSION:
        raise BitstreamError(f"damaged stream: there is no format version {version}")


def _check_length(data: bytes, expected: int) -> None:
    if len(data) < expected:
        raise BitstreamError(f"truncated stream: {len(data)} bytes of {expected}")
    if len(data) > expected:
        raise BitstreamError(f"left-over bytes: the stream ends at {expected} of {len(data)} bytes")


def _check_crc(data: bytes) -> None:
    stored = int.from_bytes(data[-CRC_BYTES:], "little")
    actual = zlib.crc32(memoryview(data)[:-CRC_BYTES])
    if stored != actual:
        raise BitstreamError(f"damaged stream: checksum is {actual:08x}, should be {stored:08x}")


def _check_dimensions(height: int, width: int, max_pixels: int) -> None:
    if height < 1 or width < 1:
        raise BitstreamError(f"damaged stream: an image of {height} x {width} pixels")
    if coded_pixels(height, width) > max_pixels:
        raise BitstreamError(
            f"an image of {height} x {width} pixels, padded to whole blocks of {BLOCK}, exceeds "
            f"the limit of {max_pixels} pixels: pass max_pixels=... to decode it anyway"
        )


def _lanes(sizes: _StreamSizes) -> int:
    if sizes.lanes_log2 > MAX_LANES_LOG2:
        raise BitstreamError(
            f"damaged stream: 2**{sizes.lanes_log2} coder lanes, at most 2**{MAX_LANES_LOG2} exist"
        )
    return 1 << sizes.lanes_log2
