"""Claims about profile and metadata in sections: exact, bounded, and no damage goes unnoticed."""

import contextlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jvrc.coding.container import Section
from jvrc.coding.metadata import EXIF, ICC, THUMBNAIL, XMP, read_metadata, write_metadata
from jvrc.errors import BitstreamError
from jvrc.io.picture import MAX_METADATA

TEXT = b"<x:xmpmeta>" + b" " * 3000


@given(st.binary(max_size=99), st.binary(max_size=99), st.binary(max_size=99))
def test_what_is_written_comes_back(icc, exif, xmp):
    sections = write_metadata(icc, exif, xmp)
    assert len(sections) == sum(map(bool, (icc, exif, xmp)))
    others = (Section(THUMBNAIL, b"x"), Section(THUMBNAIL, b"y"), Section(200, b"?"))
    assert read_metadata((*others, *sections)) == (icc, exif, xmp)


def test_the_types_are_those_of_the_format():
    assert [section.kind for section in write_metadata(b"i", b"e", b"x")] == [129, 130, 131]
    assert (ICC, EXIF, XMP, THUMBNAIL) == (129, 130, 131, 132)
    assert zlib.decompress(write_metadata(b"", b"", TEXT)[0].payload) == TEXT


def test_a_packet_of_spaces_is_small():
    (section,) = write_metadata(b"", b"", TEXT)
    assert len(section.payload) < 50


@given(st.data())
def test_any_damaged_byte_is_noticed(data):
    """But for bits that mean nothing: those that fill up zlib's last byte before the checksum."""
    exif = b"exif of a camera"
    (section,) = write_metadata(b"", exif, b"")
    payload, checksum = bytearray(section.payload), 4  # bytes
    at = data.draw(st.integers(2, len(payload) - 1))  # before that: what zlib's decoder may skip
    payload[at] ^= data.draw(st.integers(1, 255))
    damaged = [Section(EXIF, bytes(payload))]
    if at == len(payload) - checksum - 1:
        with contextlib.suppress(BitstreamError):
            assert read_metadata(damaged)[1] == exif
    else:
        with pytest.raises(BitstreamError, match="damaged stream: EXIF"):
            read_metadata(damaged)


@pytest.mark.parametrize(
    "payload",
    [b"", b"no zlib", zlib.compress(b""), zlib.compress(TEXT)[:-1], zlib.compress(TEXT) + b"\0"],
)
def test_what_is_no_whole_zlib_stream_is_refused(payload):
    with pytest.raises(BitstreamError, match="damaged stream: ICC profile"):
        read_metadata([Section(ICC, payload)])


def test_a_second_section_of_a_type_is_refused():
    (section,) = write_metadata(b"", b"", TEXT)
    with pytest.raises(BitstreamError, match="a second section with XMP"):
        read_metadata([section, section])


def test_bombs_are_refused_and_the_limit_is_kept():
    limit = bytes(MAX_METADATA)
    assert read_metadata(write_metadata(limit, b"", b""))[0] == limit
    with pytest.raises(ValueError, match=f"XMP must have at most {MAX_METADATA} bytes, got "):
        write_metadata(b"", b"", limit + b"\0")
    bomb = zlib.compress(limit + b"\0")
    with pytest.raises(BitstreamError, match=f"XMP of more than {MAX_METADATA} bytes"):
        read_metadata([Section(XMP, bomb)])
