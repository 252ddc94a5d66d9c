"""Claims about the bytes of values outside the tables."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jvrc.coding.escapes import pack_escapes, unpack_escapes
from jvrc.coding.varint import write_varint
from jvrc.errors import BitstreamError

int32 = arrays(np.int32, st.integers(0, 50), elements=st.integers(-(2**31), 2**31 - 1))


def test_exact_bytes():
    assert pack_escapes(np.array([0, -1, 1, 63, -64, 64])) == bytes.fromhex("00 01 02 7e 7f 8001")
    extremes = np.array([-(2**31), 2**31 - 1])
    assert pack_escapes(extremes) == bytes.fromhex("ffffffff0f feffffff0f")


@given(int32)
def test_round_trip(values):
    back = unpack_escapes(pack_escapes(values))
    assert back.dtype == np.int32
    np.testing.assert_array_equal(back, values)


@given(int32)
def test_same_varints_as_in_the_header(values):
    numbers = [2 * v if v >= 0 else -2 * v - 1 for v in values.tolist()]
    assert pack_escapes(values) == b"".join(map(write_varint, numbers))


@given(st.binary(max_size=40))
def test_bytes_have_one_meaning_or_none(data):
    try:
        values = unpack_escapes(data)
    except BitstreamError:
        return
    assert pack_escapes(values) == data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x80", "escape value cut off"),
        (b"\x01\x80", "escape value cut off"),
        (b"\x80\x00", "too long or padded"),
        (b"\x80\x80\x80\x80\x80\x01", "too long or padded"),
        (b"\xff\xff\xff\xff\x10", "exceeds 32 bits"),
    ],
)
def test_damage_is_named(data, message):
    with pytest.raises(BitstreamError, match=message):
        unpack_escapes(data)


@pytest.mark.parametrize("values", [[2**31], [-(2**31) - 1], [0.5]])
def test_only_int32_values_are_packed(values):
    with pytest.raises(ValueError, match="values must"):
        pack_escapes(np.array(values))
