"""Claims about varints: round trips, one encoding of each number, and no number beyond 32 bits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jvrc.coding.varint import read_varint, unzigzag, write_varint, zigzag
from jvrc.errors import BitstreamError


@given(st.integers(0, 2**32 - 1), st.binary(max_size=3))
def test_varint_round_trip(value, before):
    encoded = write_varint(value)
    end = len(before) + len(encoded)
    assert read_varint(before + encoded + b"\xff", len(before)) == (value, end)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "truncated"),
        (b"\x80\x80", "truncated"),
        (b"\x80\x00", "padded"),
        (b"\xff\xff\xff\xff\x10", "exceeds 32 bits"),
        (b"\xff\xff\xff\xff\xff\x01", "exceeds 32 bits"),
    ],
)
def test_bad_varint_is_refused(data, message):
    with pytest.raises(BitstreamError, match=message):
        read_varint(data, 0)


@pytest.mark.parametrize("value", [-1, 2**32])
def test_varint_outside_32_bits_is_not_written(value):
    with pytest.raises(ValueError, match="varint must be in"):
        write_varint(value)


@given(st.integers(-(2**31), 2**31 - 1))
def test_zigzag_round_trip(value):
    assert unzigzag(zigzag(value)) == value
    assert zigzag(value) == (2 * value if value >= 0 else -2 * value - 1)
