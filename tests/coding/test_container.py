"""Claims about the file format: exact bytes, round trips, and that no damage goes unnoticed."""

import contextlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jvrc.coding.container import MAX_PIXELS, Container, Section, Stream, Tile
from jvrc.coding.packing import pack, unpack, unpack_lazily
from jvrc.coding.varint import write_varint
from jvrc.errors import BitstreamError

TILE = Tile(True, Stream(words=b"zw", escapes=b"", lanes=1), Stream(b"ywords", b"e", lanes=64))
SMALL = Container(
    model_id="01ab23cd", height=300, width=5, qstep_code=-3, tiles=(TILE,), tile_side=16
)
TILES = tuple(Tile(bool(n % 2), Stream(b"z" * n, b"", 1), Stream(b"y", b"e", 2)) for n in range(3))
SEVERAL = SMALL._replace(
    width=120, tiles=TILES, tile_side=2, sections=(Section(130, b"exif"), Section(255, b""))
)
REFINED = SMALL._replace(tiles=(TILE._replace(refined=True),), refinement_id="fe012345")
PATCHED = SMALL._replace(tiles=(TILE._replace(patch=b"patch", alpha=b"alpha"),))
HEADER = b"JVRC" + bytes.fromhex("02 01ab23cd ac02 05 05 03 10")

streams = st.builds(
    Stream,
    words=st.binary(max_size=300),
    escapes=st.binary(max_size=300),
    lanes=st.integers(0, 12).map(lambda exponent: 1 << exponent),
)
tiles = st.builds(Tile, scale_adapted=st.booleans(), z=streams, y=streams, refined=st.just(False))
sections = st.builds(Section, st.integers(128, 255), st.binary(max_size=200))


@st.composite
def containers(draw):
    container = Container(
        model_id=draw(st.binary(min_size=4, max_size=4)).hex(),
        height=draw(st.integers(1, 300)),
        width=draw(st.integers(1, 2**10)),
        qstep_code=draw(st.integers(-(2**20), 2**20)),
        tiles=(),
        tile_side=draw(st.integers(4, 16)),
        sections=tuple(draw(st.lists(sections, max_size=3))),
    )
    count = container.grid.count
    found = draw(st.lists(tiles, min_size=count, max_size=count))
    if draw(st.booleans()):  # version 3
        container = container._replace(refinement_id=draw(st.binary(min_size=4, max_size=4)).hex())
        found = [tile._replace(refined=draw(st.booleans())) for tile in found]
    return container._replace(tiles=tuple(found))


def section(kind, payload, header=HEADER):
    body = bytes([kind]) + write_varint(len(payload)) + payload
    return body + zlib.crc32(header + body).to_bytes(4, "little")


TILE_BYTES = bytes.fromhex("00 10 02 00 06 06") + b"zw" + b"ywords" + b"e"


def with_byte(offset, value):
    """SMALL with a byte of its header or its tile's payload replaced, and a checksum that fits."""
    body = bytearray(HEADER + TILE_BYTES)
    body[offset] = value
    header, payload = bytes(body[: len(HEADER)]), bytes(body[len(HEADER) :])
    return header + section(2, payload, header)


def fails(data, message):
    with pytest.raises(BitstreamError, match=message) as caught:
        unpack(data)
    assert "\n" not in str(caught.value)


def test_bytes_are_exactly_as_specified():
    assert pack(SMALL) == HEADER + section(2, TILE_BYTES)
    assert unpack(pack(SMALL)) == SMALL


def test_bytes_of_a_refined_tile_are_exactly_as_specified():
    """Version 3 has the id of the refinement at the end of the header, and a flag."""
    header = HEADER[:4] + b"\3" + HEADER[5:] + bytes.fromhex("fe012345")
    tile = TILE_BYTES[:1] + bytes([TILE_BYTES[1] | 0x20]) + TILE_BYTES[2:]
    assert pack(REFINED) == header + section(2, tile, header)
    assert unpack(pack(REFINED)) == REFINED
    assert (SMALL.version, REFINED.version) == (2, 3)


def test_a_refined_tile_needs_the_id_of_a_refinement():
    with pytest.raises(ValueError, match="refinement_id must be given"):
        pack(REFINED._replace(refinement_id=""))
    with pytest.raises(ValueError, match="refinement_id must be eight lower-case hex digits"):
        pack(REFINED._replace(refinement_id="FE012345"))


def test_bytes_of_several_tiles_are_exactly_as_specified():
    header = b"JVRC" + bytes.fromhex("02 01ab23cd ac02 78 05 03 02")
    names = [bytes([n, 16 * (n % 2), n, 0, 1, 1]) for n in range(3)]
    tiles = [section(2, name + b"z" * n + b"ye", header) for n, name in enumerate(names)]
    index = section(1, bytes(map(len, tiles)), header)
    others = section(130, b"exif", header) + section(255, b"", header)
    assert pack(SEVERAL) == header + others + index + b"".join(tiles)
    assert unpack(pack(SEVERAL)) == SEVERAL


@given(containers())
def test_round_trip(container):
    assert unpack(pack(container)) == container


@given(tiles, st.integers(1, 2**14), st.integers(1, 2**14))
def test_one_tile_costs_at_most_8_bytes_over_version_1(tile, height, width):
    """Of up to 2**28 bytes, which no tile of at most 64x64 positions of y reaches."""
    tile = tile._replace(patch=b"", alpha=b"")
    coded = Container("01ab23cd", min(height, 1024), min(width, 1024), 640, (tile,))
    lengths = (len(s) for s in (tile.z.words, tile.z.escapes, tile.y.words, tile.y.escapes))
    fields = (coded.height, coded.width, 2 * 1280 + tile.scale_adapted, *lengths)
    streams = sum(len(s.words) + len(s.escapes) for s in (tile.z, tile.y))
    version_1 = 4 + 1 + 4 + sum(len(write_varint(f)) for f in fields) + 2 + streams + 4
    assert len(pack(coded)) <= version_1 + 7


def test_any_bytes_like_object_unpacks():
    assert unpack(memoryview(pack(SMALL))) == unpack(bytearray(pack(SMALL))) == SMALL
    with pytest.raises(TypeError, match="data must be bytes, got str"):
        unpack("JVRC")


@pytest.mark.parametrize(
    "container", [SMALL, SEVERAL, REFINED], ids=["one tile", "several", "refined"]
)
def test_every_changed_byte_is_noticed(container):
    data = pack(container)
    for offset in range(len(data)):
        for change in range(1, 256):
            damaged = bytearray(data)
            damaged[offset] ^= change
            with pytest.raises(BitstreamError):
                unpack(bytes(damaged))


@given(containers(), st.data())
def test_a_changed_byte_of_any_file_is_noticed(container, data):
    damaged = bytearray(pack(container))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BitstreamError):
        unpack(bytes(damaged))


@pytest.mark.parametrize(
    "container",
    [SMALL, SEVERAL, PATCHED, REFINED],
    ids=["one tile", "several", "several sections", "refined"],
)
def test_every_truncation_is_noticed(container):
    data = pack(container)
    for length in range(1, len(data)):
        fails(data[:length], "truncated")
        with pytest.raises(BitstreamError):
            unpack_lazily(data[:length])


@pytest.mark.parametrize("container", [SMALL, SEVERAL], ids=["one tile", "several"])
@pytest.mark.parametrize("extra", range(256))
def test_every_appended_byte_is_noticed(container, extra):
    fails(pack(container) + bytes([extra]), "left-over bytes")


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_else(data):
    for candidate in (data, b"JVRC" + data, b"JVRC\x02" + data, b"JVRC\x03" + data, HEADER + data):
        with contextlib.suppress(BitstreamError):
            unpack(candidate)


@given(st.sampled_from([0, 1, 2, 3, 127, 128, 255]), st.binary(max_size=100))
def test_arbitrary_payloads_raise_nothing_else(kind, data):
    with contextlib.suppress(BitstreamError):
        unpack(HEADER + section(kind, data))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty stream"),
        (b"JV", "truncated stream: only 2 bytes"),
        (b"\x89PNG\r\n\x1a\n", "not a jvrc stream: it starts with b'.x89PNG'"),
        (with_byte(4, 4), "format version 4, this library reads up to 3: upgrade"),
        (with_byte(4, 0), "no format version 0"),
        (with_byte(11, 0), "an image of 300 x 0 pixels"),
        (with_byte(10, 0), "padded varint at byte 9"),
        (with_byte(13, 2), "2 colour channels, this library reads 1 and 3: upgrade"),
        (with_byte(14, 17), "tiles of 17 blocks a side"),
        (with_byte(14, 0), "tiles of 0 blocks a side"),
        (with_byte(14, 4), "one tile without an index, of 2"),
        (with_byte(15, 1), "tile 1 in its place"),
        (with_byte(16, 0x20), "unknown flags 0x20"),
        (with_byte(16, 13), r"2\*\*13 coder lanes, at most 2\*\*12"),
        (with_byte(19, 13), r"2\*\*13 coder lanes, at most 2\*\*12"),
        (with_byte(17, 10), "streams longer than their section"),
        (HEADER + section(2, b"\0\0"), "truncated"),
        (HEADER + section(2, TILE_BYTES)[:-1] + b"\x00", "damaged stream: checksum"),
        (HEADER + section(3, b"") + section(2, TILE_BYTES), "section of type 3 out of its place"),
        (HEADER + section(0, b""), "section of type 0 out of its place"),
        (HEADER + section(1, b"\x15") + section(2, TILE_BYTES), "1 tiles, and an index, but one"),
        (HEADER + section(129, b""), "truncated"),
    ],
)
def test_message_says_what_is_wrong(data, message):
    fails(data, message)


def several_with(index=None, change=lambda tiles: tiles):
    """SEVERAL with another index, or its tiles' sections changed."""
    header = b"JVRC" + bytes.fromhex("02 01ab23cd ac02 78 05 03 02")
    data, found, at = pack(SEVERAL._replace(sections=())), [], len(header)
    while at < len(data):
        end = at + 2 + data[at + 1] + 4
        found.append(data[at:end])
        at = end
    tiles = change(found[1:])
    index = section(1, bytes(map(len, tiles)) if index is None else index, header)
    return header + index + b"".join(tiles), header


def test_tiles_in_another_order_and_other_indices_are_refused():
    data, header = several_with()
    assert unpack(data) == SEVERAL._replace(sections=())
    lengths = data[len(header) + 2 : len(header) + 2 + len(TILES)]
    fails(several_with(change=lambda t: [t[1], t[0], *t[2:]])[0], "tile 0 .* tile 1 in its place")
    fails(several_with(change=lambda t: [t[0], t[0], *t[2:]])[0], "tile 1 .* tile 0 in its place")
    fails(several_with(change=lambda t: t[:-1])[0], "3 tiles, and an index of 2 bytes")
    fails(several_with(index=lengths[:-1])[0], "3 tiles, and an index of 2 bytes")
    fails(several_with(index=lengths + b"\1")[0], "an index of more than 3 tiles")
    fails(several_with(index=bytes([lengths[0] - 1, lengths[1] + 1, lengths[2]]))[0], "tile 0 .*")
    fails(several_with(index=bytes([lengths[0] + 1, lengths[1] - 1, lengths[2]]))[0], "tile 0 .*")
    fails(several_with(index=bytes([*lengths[:2], lengths[2] + 1]))[0], "truncated")
    fails(several_with(index=bytes([*lengths[:2], lengths[2] - 1]))[0], "left-over")
    unknown = section(4, b"payload", header)
    fails(several_with(change=lambda t: [t[0], unknown, t[2]])[0], "type 4, .* upgrade")
    skippable = section(200, b"payload", header)
    fails(several_with(change=lambda t: [t[0], skippable, t[2]])[0], "type 200 out of its place")


def test_patch_and_alpha_follow_their_tile_in_this_order():
    patch, alpha = section(3, b"\0patch", HEADER), section(5, b"\0alpha", HEADER)
    tile = section(2, TILE_BYTES)

    def indexed(sections):
        return HEADER + section(1, write_varint(len(sections))) + sections

    assert pack(PATCHED) == indexed(tile + patch + alpha)
    assert unpack(indexed(tile + patch + alpha)) == PATCHED
    for wrong in (alpha + patch, patch + patch, alpha + alpha, tile):
        fails(indexed(tile + wrong), "out of its place")
    fails(HEADER + patch, "type 3 out of its place")
    fails(HEADER + tile + patch, "left-over bytes")
    fails(indexed(tile + section(3, b"\1patch", HEADER)), "tile 1 in its place")
    fails(indexed(tile + section(5, b"\0", HEADER)), "an empty section of type 5")
    fails(indexed(tile + patch)[:-1], "truncated")


def test_sections_that_may_be_skipped_come_back_and_change_no_tile():
    data = pack(SEVERAL)
    assert unpack(data).sections == SEVERAL.sections
    assert unpack(data).tiles == unpack(pack(SEVERAL._replace(sections=()))).tiles


def test_damage_names_the_tile_and_its_place_and_spares_the_others():
    data = pack(SEVERAL)
    damaged = bytearray(data)
    damaged[-1] ^= 1
    fails(bytes(damaged), r"tile 2 \(rows 192 \.\.\. 299, columns 0 \.\.\. 119\): damaged stream")
    coded = unpack_lazily(bytes(damaged))
    assert (coded.tiles[0], coded.tiles[1], len(coded.tiles)) == (*TILES[:2], 3)
    with pytest.raises(BitstreamError, match="tile 2"):
        coded.tiles[2]


def test_a_header_of_another_file_is_noticed_in_every_tile():
    header, tile = pack(SMALL._replace(qstep_code=5))[: len(HEADER)], pack(SMALL)[len(HEADER) :]
    fails(header + tile, "damaged stream: checksum")


def test_too_large_an_image_is_refused_unless_the_caller_allows_it():
    large = SMALL._replace(height=MAX_PIXELS // 64, width=65, tile_side=1)
    large = large._replace(tiles=(TILE,) * large.grid.count)
    with pytest.raises(BitstreamError, match="pass max_pixels="):
        unpack(pack(large))
    assert unpack(pack(large), max_pixels=2 * MAX_PIXELS) == large


def test_the_limit_counts_padded_blocks_since_memory_does():
    thin = SMALL._replace(height=1, width=MAX_PIXELS)
    thin = thin._replace(tiles=(TILE,) * thin.grid.count)
    with pytest.raises(BitstreamError, match="padded to whole blocks"):
        unpack(pack(thin))
    fits = SMALL._replace(height=1, width=MAX_PIXELS // 64)
    fits = fits._replace(tiles=(TILE,) * fits.grid.count)
    assert unpack(pack(fits)) == fits


def test_absurd_claims_are_refused_at_once():
    header = b"JVRC" + bytes.fromhex("02 01ab23cd ffffffff0f ffffffff0f 05 03 01")
    for data in (section(2, TILE_BYTES, header), section(1, b"\x17", header)):
        with pytest.raises(BitstreamError, match=f"{2**52}"):
            unpack(header + data, max_pixels=2**64)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("height", 0),
        ("width", -1),
        ("height", 2**32),
        ("model_id", "01ab23"),
        ("model_id", "01AB23CD"),
        ("model_id", "01ab 23cd"),
        ("model_id", "not hex!"),
        ("tile_side", 0),
        ("tile_side", 17),
        ("tiles", ()),
        ("tiles", (TILE, TILE)),
        ("tiles", (TILE._replace(z=Stream(b"", b"", 3)),)),
        ("tiles", (TILE._replace(z=Stream(b"", b"", 0)),)),
        ("tiles", (TILE._replace(y=Stream(b"", b"", 2**13)),)),
        ("sections", (Section(127, b""),)),
        ("sections", (Section(256, b""),)),
    ],
)
def test_pack_refuses_what_unpack_would(field, value):
    with pytest.raises(ValueError, match=field if field in ("model_id",) else "must be"):
        pack(SMALL._replace(**{field: value}))
