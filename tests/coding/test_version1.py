"""Claims about reading files of version 1: exact bytes, and that no damage goes unnoticed."""

import contextlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jvrc.coding.container import MAX_PIXELS, Container, Stream, Tile
from jvrc.coding.packing import pack, unpack
from jvrc.coding.varint import write_varint, zigzag
from jvrc.errors import BitstreamError

SMALL = Container(
    model_id="01ab23cd",
    height=300,
    width=5,
    qstep_code=-3,
    tiles=(Tile(True, Stream(b"zw", b"", 1), Stream(b"ywords", b"e", 64)),),
    tile_side=0,
)

streams = st.builds(
    Stream,
    words=st.binary(max_size=300),
    escapes=st.binary(max_size=300),
    lanes=st.integers(0, 12).map(lambda exponent: 1 << exponent),
)
containers = st.builds(
    Container,
    model_id=st.binary(min_size=4, max_size=4).map(bytes.hex),
    height=st.integers(1, 2**13),
    width=st.integers(1, 2**13),
    qstep_code=st.integers(-(2**20), 2**20),
    tiles=st.tuples(
        st.builds(
            Tile,
            scale_adapted=st.booleans(),
            z=streams,
            y=streams,
            patch=st.just(b""),
            alpha=st.just(b""),
            refined=st.just(False),
        )
    ),
    tile_side=st.just(0),
    sections=st.just(()),
    channels=st.just(3),
    refinement_id=st.just(""),
)


def pack1(container):
    """The bytes that version 1 wrote."""
    (tile,) = container.tiles
    parts = [
        b"JVRC\x01" + bytes.fromhex(container.model_id),
        write_varint(container.height),
        write_varint(container.width),
        write_varint(2 * zigzag(container.qstep_code) + tile.scale_adapted),
    ]
    for stream in (tile.z, tile.y):
        sizes = write_varint(len(stream.words)) + write_varint(len(stream.escapes))
        parts.append(bytes([stream.lanes.bit_length() - 1]) + sizes)
    parts += [tile.z.words, tile.z.escapes, tile.y.words, tile.y.escapes]
    return with_crc(b"".join(parts))


def with_crc(body: bytes) -> bytes:
    return body + zlib.crc32(body).to_bytes(4, "little")


def with_header_byte(offset: int, value: int) -> bytes:
    """SMALL with one byte replaced and the checksum made to fit."""
    body = bytearray(pack1(SMALL)[:-4])
    body[offset] = value
    return with_crc(bytes(body))


def test_bytes_are_exactly_as_specified():
    header = b"JVRC" + bytes.fromhex("01 01ab23cd ac02 05 0b 000200 060601")
    body = header + b"zw" + b"ywords" + b"e"
    assert pack1(SMALL) == with_crc(body)
    assert unpack(pack1(SMALL)) == SMALL


@given(containers)
def test_round_trip(container):
    assert unpack(pack1(container)) == container


def test_any_bytes_like_object_unpacks():
    assert unpack(memoryview(pack1(SMALL))) == unpack(bytearray(pack1(SMALL))) == SMALL
    with pytest.raises(TypeError, match="data must be bytes, got str"):
        unpack("JVRC")


def test_every_flipped_bit_is_noticed():
    data = pack1(SMALL)
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError):
            unpack(bytes(damaged))


def test_every_truncation_is_noticed():
    data = pack1(SMALL)
    for length in range(1, len(data)):
        with pytest.raises(BitstreamError, match="truncated"):
            unpack(data[:length])


@pytest.mark.parametrize("extra", range(256))
def test_every_appended_byte_is_noticed(extra):
    with pytest.raises(BitstreamError, match="left-over bytes"):
        unpack(pack1(SMALL) + bytes([extra]))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_else(data):
    for start in (b"", b"JVRC", b"JVRC\x01"):
        for candidate in (start + data, with_crc(start + data)):
            with contextlib.suppress(BitstreamError):
                unpack(candidate)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty stream"),
        (b"JV", "truncated stream: only 2 bytes"),
        (b"\x89PNG\r\n\x1a\n", "not a jvrc stream: it starts with b'.x89PNG'"),
        (with_header_byte(4, 4), "format version 4, this library reads up to 3: upgrade"),
        (with_header_byte(4, 0), "no format version 0"),
        (with_header_byte(11, 0), "an image of 300 x 0 pixels"),
        (with_header_byte(10, 0), "padded varint at byte 9"),
        (with_header_byte(13, 13), r"2\*\*13 coder lanes, at most 2\*\*12"),
        (with_header_byte(14, 3), "truncated stream: 32 bytes of 33"),
        (with_header_byte(14, 1), "left-over bytes: the stream ends at 31 of 32 bytes"),
        (pack1(SMALL)[:-1] + b"\x00", "damaged stream: checksum"),
    ],
)
def test_message_says_what_is_wrong(data, message):
    with pytest.raises(BitstreamError, match=message):
        unpack(data)


def test_too_large_an_image_is_refused_unless_the_caller_allows_it():
    large = SMALL._replace(height=MAX_PIXELS // 64, width=65)
    with pytest.raises(BitstreamError, match="pass max_pixels="):
        unpack(pack1(large))
    assert unpack(pack1(large), max_pixels=2 * MAX_PIXELS) == large


def test_the_limit_counts_padded_blocks_since_memory_does():
    thin = SMALL._replace(height=1, width=MAX_PIXELS)
    with pytest.raises(BitstreamError, match="padded to whole blocks"):
        unpack(pack1(thin))
    fits = SMALL._replace(height=1, width=MAX_PIXELS // 64)
    assert unpack(pack1(fits)) == fits


def test_version_1_is_not_written_any_more():
    with pytest.raises(ValueError, match="tile_side must be in 1"):
        pack(SMALL)
