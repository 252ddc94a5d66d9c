"""Claims about profile and metadata in sections: exact, bounded, and no damage goes unnoticed."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jvrc.coding.container import Section
from jvrc.coding.metadata import EXIF, ICC, THUMBNAIL, XMP, readable_metadata, write_metadata
from jvrc.io.picture import MAX_METADATA

TEXT = b"<x:xmpmeta>" + b" " * 3000


@given(st.binary(max_size=99), st.binary(max_size=99), st.binary(max_size=99))
def test_what_is_written_comes_back(icc, exif, xmp):
    sections = write_metadata(icc, exif, xmp)
    assert len(sections) == sum(map(bool, (icc, exif, xmp)))
    others = (Section(THUMBNAIL, b"x"), Section(THUMBNAIL, b"y"), Section(200, b"?"))
    assert readable_metadata((*others, *sections)) == ((icc, exif, xmp), [])


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
    (icc, found, xmp), lost = readable_metadata([Section(EXIF, bytes(payload))])
    assert (icc, xmp) == (b"", b"")
    if found:
        assert (at, found, lost) == (len(payload) - checksum - 1, exif, [])
    else:
        assert lost[0].startswith("EXIF is left out: damaged stream: EXIF")


@pytest.mark.parametrize(
    "payload",
    [b"", b"no zlib", zlib.compress(b""), zlib.compress(TEXT)[:-1], zlib.compress(TEXT) + b"\0"],
)
def test_what_is_no_whole_zlib_stream_costs_that_section_alone(payload):
    beside = write_metadata(b"", b"exif", b"xmp")
    found, (line,) = readable_metadata([Section(ICC, payload), *beside])
    assert found == (b"", b"exif", b"xmp")
    assert line.startswith("ICC profile is left out: damaged stream: ICC profile")


def test_of_two_sections_of_a_type_none_is_taken():
    (section,) = write_metadata(b"", b"", TEXT)
    line = "XMP is left out: damaged stream: a second section with XMP"
    assert readable_metadata([section, section]) == ((b"", b"", b""), [line])


def test_bombs_are_refused_and_the_limit_is_kept():
    limit = bytes(MAX_METADATA)
    assert readable_metadata(write_metadata(limit, b"", b"")) == ((limit, b"", b""), [])
    with pytest.raises(ValueError, match=f"XMP must have at most {MAX_METADATA} bytes, got "):
        write_metadata(b"", b"", limit + b"\0")
    bomb = zlib.compress(limit + b"\0")
    found, (line,) = readable_metadata([Section(XMP, bomb)])
    assert found[2] == b""
    assert line.endswith(f"XMP of more than {MAX_METADATA} bytes")
