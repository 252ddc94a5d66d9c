"""A decoder of jvrc streams, written from `jvrc/coding/FORMAT.md` alone.

It shares no code with jvrc and favours plainness over speed: what it decodes shows that the page
says enough, and that jvrc does what the page says. "Section" below means a section of that page.
Section 6.2 is in `reference_refinement.py`, 7.2 in `reference_jvrc2026.py`; sections 7.3, 8 and 9
are in `reference_pictures.py`.

    python tests/reference_decoder.py WEIGHTS STREAM [-o OUT.png]
"""

import argparse
import hashlib
import json
import math
import zlib
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import reference_jvrc2026 as jvrc2026
import reference_pictures as pictures
import reference_refinement as refinement
from PIL import Image
from safetensors import safe_open

Array = np.ndarray
Weights = dict[str, Array]
Config = dict[str, Any]

MAGIC = b"JVRC"
MAX_LOG_LANES = 12
MAX_SIDE = 16  # of a tile, in blocks of 64x64 pixels
INDEX, TILE, PATCH, ALPHA, SKIPPABLE = 1, 2, 3, 5, 128  # types of sections
MAX_ESCAPE = 2**20
MIN_CODE, MAX_CODE = -128, 640
TOTAL = 2**16  # what the frequencies of a table sum to; also the smallest state of a lane
MAX_Z_HAT = 2047
MAX_FEATURE = 255
MAX_WIDE_FEATURE = 1023  # of mbt2018, behind the hyper synthesis
SHIFT_LOW = -12
SHIFT_TABLE = np.array([82, 95, 112, 134, 160, 193, 235, 287, 352, 433, 534, 661])
SHIFT_TABLE = np.array([*SHIFT_TABLE, 58979, *SHIFT_TABLE[::-1], 1])
MAX_SUM = 2**24
MAX_ADDED = 2**28 + 2**24
MAX_WEIGHT = 32767
Z_EXPONENT = -4  # where the weights hold none
Y_EXPONENT = -6
LAYERS = (
    *(f"params/h_s/{name}" for name in ("deconv0", "deconv1", "conv2")),
    "params/context/conv",
    *(f"params/entropy_parameters/conv{i}" for i in range(3)),
)
ROWS = (5, 5, 2)  # taps of the context two rows above, in the row above, to the left
SCALES = 90
G = 184.6649652337873  # 128 / ln 2


class Stream(NamedTuple):
    """One stream of symbols: the lanes of its range coder, its words and its escape values."""

    lanes: int
    words: bytes
    escapes: tuple[int, ...]


class Tile(NamedTuple):
    """What the sections of a tile hold."""

    shifted: bool
    z: Stream
    y: Stream
    patch: bytes = b""
    alpha: bytes = b""
    refined: bool = False


class Container(NamedTuple):
    """What a file holds."""

    model_id: str
    height: int
    width: int
    code: int
    side: int | None  # of a tile, in blocks of 64x64 pixels; None: one tile, in version 1
    tiles: tuple[Tile, ...]
    others: tuple[tuple[int, bytes], ...] = ()  # type and payload of sections that were skipped
    channels: int = 3  # of colour: 1 is grey
    refinement_id: str | None = None  # in version 3


class Symbols(NamedTuple):
    """What the exact part of the decoder gives: `mu` is float64, the others are int64."""

    z: Array
    y: Array
    index: Array
    mu: Array


# Section 1: the file


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Section 1: the varint at offset `at` and the offset behind it."""
    value = 0
    for group in range(5):
        if at >= len(data):
            raise ValueError("damaged: the data end within a number")
        byte = data[at]
        at += 1
        value |= (byte & 127) << 7 * group
        if byte < 128:
            if group and not byte:
                raise ValueError("damaged: a number with superfluous groups")
            if value >= 2**32:
                raise ValueError("damaged: a number of more than 32 bits")
            return value, at
    raise ValueError("damaged: a number of more than five bytes")


def unzigzag(value: int) -> int:
    """Section 1: the signed integer that a zigzag varint stores."""
    return -(value + 1 >> 1) if value & 1 else value >> 1


def read_escapes(data: bytes) -> tuple[int, ...]:
    """Section 3: the escape values of a stream."""
    values, at = [], 0
    while at < len(data):
        value, at = read_varint(data, at)
        values.append(unzigzag(value))
    if any(abs(value) > MAX_ESCAPE for value in values):
        raise ValueError("damaged: an escape value out of range")
    return tuple(values)


def read_stream(data: bytes) -> Container:
    """Section 1: what a file holds; ValueError if it is damaged."""
    if data[:4] != MAGIC:
        raise ValueError("not a jvrc file")
    if data[4:5] == b"\1":
        return read_version_1(data)
    if data[4:5] not in (b"\2", b"\3"):
        raise ValueError("another version of the format, or damaged")
    return read_sections(data, refines=data[4:5] == b"\3")


def read_sections(data: bytes, refines: bool) -> Container:
    """Sections 1.1 and 1.2: what a file of version 2 holds, or of version 3, which refines."""
    height, at = read_varint(data, 9)
    width, at = read_varint(data, at)
    value, at = read_varint(data, at)
    if at + 2 > len(data):
        raise ValueError("damaged: the data end within the header")
    (channels, side), at = data[at : at + 2], at + 2
    refinement_id = data[at : at + 4].hex() if refines else None
    at += 4 * refines
    if at > len(data):
        raise ValueError("damaged: the data end within the header")
    header, found = data[:at], []
    while at < len(data):
        kind, payload, end = read_section(data, at, header)
        found.append((kind, payload, end - at))
        at = end
    if not found:
        raise ValueError("damaged: no section")
    check_dimensions(height, width, unzigzag(value))
    if channels not in (1, 3):
        raise ValueError("another number of channels: a newer decoder is needed")
    if not 1 <= side <= MAX_SIDE:
        raise ValueError("damaged: no such tiles")
    container = Container(data[5:9].hex(), height, width, unzigzag(value), side, ())
    others = [f for f in found if f[0] >= SKIPPABLE]
    indexed = len(others) < len(found) and found[len(others)][0] == INDEX
    tiles = group_tiles(found[len(others) + indexed :])
    count = len(tile_areas(container))
    if (
        found[: len(others)] != others
        or len(tiles) != count
        or indexed != (count > 1 or len(tiles[0]) > 1)
    ):
        raise ValueError("damaged: too many sections or too few, no index, or in another order")
    if indexed:
        sizes = [sum(size for _, _, size in tile) for tile in tiles]
        check_index(found[len(others)][1], sizes)
    return container._replace(
        tiles=tuple(read_tile_sections(tile, n, refines) for n, tile in enumerate(tiles)),
        refinement_id=refinement_id,
        others=tuple((kind, payload) for kind, payload, _ in others),
        channels=channels,
    )


def group_tiles(found: list[tuple[int, bytes, int]]) -> list[list[tuple[int, bytes, int]]]:
    """Section 1.2: the sections of each tile."""
    tiles = []
    for section in found:
        kind = section[0]
        if kind == TILE:
            tiles.append([section])
        elif kind in (PATCH, ALPHA) and tiles and tiles[-1][-1][0] < kind:
            tiles[-1].append(section)
        elif kind < SKIPPABLE:
            raise ValueError("a section of an unknown type, or damaged")
    return tiles


def read_tile_sections(found: list[tuple[int, bytes, int]], number: int, refines: bool) -> Tile:
    """Section 1.3: the tile of this number."""
    tile = read_tile(found[0][1], number, refines)
    for kind, payload, _ in found[1:]:
        stated, at = read_varint(payload, 0)
        if stated != number or at == len(payload):
            raise ValueError("damaged: a section in the place of another, or empty")
        tile = tile._replace(**{"patch" if kind == PATCH else "alpha": payload[at:]})
    return tile


def read_section(data: bytes, at: int, header: bytes) -> tuple[int, bytes, int]:
    """Section 1.2: the type and the payload of the section at offset `at`; the offset behind it."""
    size, begin = read_varint(data, at + 1)
    end = begin + size
    if end + 4 > len(data):
        raise ValueError("damaged: the data end within a section")
    if zlib.crc32(header + data[at:end]) != int.from_bytes(data[end : end + 4], "little"):
        raise ValueError("damaged: wrong checksum")
    return data[at], data[begin:end], end + 4


def check_index(payload: bytes, sizes: list[int]) -> None:
    """Section 1.2: ValueError unless the payload is the index of tiles of these sizes."""
    at = 0
    for expected in sizes:
        size, at = read_varint(payload, at)
        if size != expected:
            raise ValueError("damaged: the index has another size of a tile")
    if at != len(payload):
        raise ValueError("damaged: the index is too long")


def read_tile(payload: bytes, number: int, refines: bool) -> Tile:
    """Section 1.3: the tile of this number."""
    found, at = read_varint(payload, 0)
    if found != number:
        raise ValueError("damaged: a tile in the place of another")
    sizes = []
    flags, at = read_byte(payload, at)
    for _ in "zz":
        size, at = read_varint(payload, at)
        sizes.append(size)
    y_lanes, at = read_byte(payload, at)
    size, at = read_varint(payload, at)
    sizes.append(size)
    if flags >= (64 if refines else 32):
        raise ValueError("damaged: unknown flags")
    ends = list(accumulate(sizes, initial=at))
    if ends[-1] > len(payload):
        raise ValueError("damaged: the streams of a tile exceed its section")
    parts = [payload[a:b] for a, b in zip(ends, [*ends[1:], len(payload)], strict=True)]
    z = Stream(lanes_of(flags % 16), parts[0], read_escapes(parts[1]))
    y = Stream(lanes_of(y_lanes), parts[2], read_escapes(parts[3]))
    return Tile(bool(flags & 16), z, y, refined=bool(flags & 32))


def read_byte(data: bytes, at: int) -> tuple[int, int]:
    """A byte and the offset behind it."""
    if at >= len(data):
        raise ValueError("damaged: the data end too early")
    return data[at], at + 1


def lanes_of(logarithm: int) -> int:
    """Sections 1.3 and 1.4: the number of lanes."""
    if logarithm > MAX_LOG_LANES:
        raise ValueError("damaged: too many lanes")
    return 1 << logarithm


def check_dimensions(height: int, width: int, code: int) -> None:
    """Section 1.1: ValueError for values that no file has."""
    if not height or not width:
        raise ValueError("damaged: no pixels")
    if not MIN_CODE <= code <= MAX_CODE:
        raise ValueError("damaged: the step code is out of range")


def read_version_1(data: bytes) -> Container:
    """Section 1.4: what a file of version 1 holds."""
    if len(data) < 13 or zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise ValueError("damaged: wrong checksum")
    data = data[:-4]
    height, at = read_varint(data, 9)
    width, at = read_varint(data, at)
    value, at = read_varint(data, at)
    code, shifted = unzigzag(value >> 1), bool(value & 1)
    check_dimensions(height, width, code)
    descriptions = []
    for _ in "zy":
        log_lanes, at = read_byte(data, at)
        words, at = read_varint(data, at)
        escapes, at = read_varint(data, at)
        descriptions.append((lanes_of(log_lanes), words, escapes))
    if len(data) - at != sum(words + escapes for _, words, escapes in descriptions):
        raise ValueError("damaged: the lengths of the streams do not fit that of the file")
    streams = []
    for lanes, words, escapes in descriptions:
        middle, end = at + words, at + words + escapes
        streams.append(Stream(lanes, data[at:middle], read_escapes(data[middle:end])))
        at = end
    return Container(data[5:9].hex(), height, width, code, None, (Tile(shifted, *streams),))


def grid(container: Container) -> tuple[int, int]:
    """Section 1.3: h and w, rows and columns of blocks."""
    return -(-container.height // 64), -(-container.width // 64)


def tile_areas(container: Container) -> list[tuple[range, range]]:
    """Section 1.3: the rows and columns of blocks of each tile."""
    along = []
    for n in grid(container):
        t = -(-n // container.side) if container.side else 1
        along.append([range(i * n // t, (i + 1) * n // t) for i in range(t)])
    return [(rows, columns) for rows in along[0] for columns in along[1]]


# Sections 2 and 3: symbols


class RangeDecoder:
    """Section 2: a stream of `count` symbols, taken one after another.

    Args:
        words: the bytes of the range coder's words.
        count: the number of symbols.
        tables: the frequencies of each table.
        lanes: the number of lanes.
        check: whether damage is looked for, with ValueError where it is found. If not, zeros
            follow the last word and whatever the stream ends in is accepted.
    """

    def __init__(self, words: bytes, count: int, tables: list[Array], lanes: int, check=True):
        used = min(lanes, count)
        if check and (len(words) < 4 * used or len(words) % 2):
            raise ValueError("damaged: too few words, or half a word")
        words = words.ljust(4 * used, b"\0")
        self.states = np.frombuffer(words, "<u4", used).tolist()
        if check and any(x < TOTAL for x in self.states):
            raise ValueError("damaged: a state is out of range")
        self.rest = np.frombuffer(words, "<u2", (len(words) - 4 * used) // 2, 4 * used).tolist()
        self.tables, self.starts = tables, {}
        self.lanes, self.check = lanes, check
        self.symbols = self.at = 0  # how many symbols and words were taken

    def table(self, t: int) -> list[int]:
        """Where the symbols of table t start, and 2¹⁶."""
        if t not in self.starts:
            frequencies = self.tables[t].tolist()
            if len(frequencies) < 2 or min(frequencies) < 1 or sum(frequencies) != TOTAL:
                raise ValueError("not a table of frequencies")
            self.starts[t] = [0, *accumulate(frequencies)]
        return self.starts[t]

    def take(self, index: Array) -> Array:
        """The next symbols, in the shape of `index`: int [...], for each symbol its table."""
        found = []
        for t in np.asarray(index).ravel().tolist():
            start, lane = self.table(t), self.symbols % self.lanes
            x = self.states[lane]
            r = x % TOTAL
            s = bisect_right(start, r) - 1
            x = (start[s + 1] - start[s]) * (x // TOTAL) + r - start[s]
            if x < TOTAL:
                if self.check and self.at >= len(self.rest):
                    raise ValueError("damaged: the words run out")
                x = x * TOTAL + (self.rest[self.at] if self.at < len(self.rest) else 0)
                self.at += 1
            self.states[lane] = x
            self.symbols += 1
            found.append(s)
        return np.array(found, np.int64).reshape(np.shape(index))

    def finish(self) -> None:
        """ValueError unless the stream ends behind the symbols taken."""
        if self.check and (self.at != len(self.rest) or any(x != TOTAL for x in self.states)):
            raise ValueError("damaged: the range coder does not end where it should")


def decode_range(words: bytes, tables: list[Array], index: Array, lanes: int, check=True) -> Array:
    """Section 2: the symbols of a whole stream, in the shape of `index`; see RangeDecoder."""
    decoder = RangeDecoder(words, np.size(index), tables, lanes, check)
    symbols = decoder.take(index)
    decoder.finish()
    return symbols


class IntegerDecoder:
    """Section 3: a stream of `count` integers, taken one after another."""

    def __init__(self, stream: Stream, count: int, tables: list[Array], low: Array):
        self.coder = RangeDecoder(stream.words, count, tables, stream.lanes)
        self.escapes, self.low = list(stream.escapes), low.astype(np.int64)
        self.last = np.array([len(table) - 1 for table in tables], np.int64)

    def take(self, index: Array) -> Array:
        """The next integers, in the shape of `index`: int [...], for each its table."""
        symbols = self.coder.take(index)
        escaped = symbols == self.last[index]
        integers, count = self.low[index] + symbols, np.count_nonzero(escaped)
        if count > len(self.escapes):
            raise ValueError("damaged: wrong number of escape values")
        integers[escaped], self.escapes = self.escapes[:count], self.escapes[count:]
        return integers

    def finish(self) -> None:
        """ValueError unless the stream ends behind the integers taken."""
        self.coder.finish()
        if self.escapes:
            raise ValueError("damaged: wrong number of escape values")


def decode_integers(stream: Stream, tables: list[Array], low: Array, index: Array) -> Array:
    """Section 3: the integers of a stream, in the shape of `index`, its tables."""
    decoder = IntegerDecoder(stream, np.size(index), tables, low)
    integers = decoder.take(index)
    decoder.finish()
    return integers


# Section 4: the weights


def load(path: str | Path) -> tuple[Weights, Config]:
    """Section 4: the tensors and the `config` of a weights file."""
    with safe_open(path, framework="np") as file:
        config = json.loads(file.metadata()["jvrc"])["config"]
        return {name: file.get_tensor(name) for name in file.keys()}, config  # noqa: SIM118


def compute_model_id(weights: Weights, config: Config) -> str:
    """Section 4: the model id, as eight hex digits."""
    names = [name for name in weights if not name.startswith("refinement/")]
    return compute_id(weights, names, json.dumps(config, sort_keys=True))


def compute_refinement_id(weights: Weights) -> str:
    """Section 4: the refinement id, as eight hex digits."""
    return compute_id(weights, [name for name in weights if name.startswith("refinement/")], "")


def compute_id(weights: Weights, names: list[str], text: str) -> str:
    """Section 4: eight hex digits of a SHA-256 over a text and tensors."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(names):
        tensor = weights[name]
        digest.update(f"{name} {tensor.dtype.str} {list(tensor.shape)}\n".encode())
        digest.update(tensor.tobytes())
    return digest.hexdigest()[:8]


def read_tables(weights: Weights, name: str) -> list[Array]:
    """Section 4: the frequencies of each table of `z_tables` or `y_tables`."""
    start = weights[f"{name}/start"].tolist()
    freq = weights[f"{name}/freq"].astype(np.int64)
    return [freq[begin:end] for begin, end in zip(start[:-1], start[1:], strict=True)]


# Section 5: from z to scale indices


def dequantise_z(weights: Weights, code: int, z: Array) -> Array:
    """Section 5, symbols of z: ẑ, in units of 2^z₀."""
    j = weights["z_step_index"][code + 128]
    z_hat = weights["medians"].astype(np.int64) + int(weights["z_steps"][j]) * z
    return np.clip(z_hat, -MAX_Z_HAT, MAX_Z_HAT)


def has_log_scale(config: Config) -> bool:
    """Section 4: `log_scale`, which jvrc2026 does not say."""
    return config["architecture"] == "jvrc2026" or config["log_scale"]


def last_layer(config: Config) -> int:
    """Section 5, integer weights: the layer that gives t and the means."""
    return 6 if config["architecture"] == "mbt2018" else 2


def input_exponents(weights: Weights, config: Config, layer: int) -> Array:
    """Section 5, integer weights: d, the exponents of a layer's inputs."""
    if layer == 0:
        exponent = weights.get("units/z/0", np.array([Z_EXPONENT], np.int8))
        return np.full(config["N"], int(exponent[0]))
    if layer == 3:
        return weights["units/latent/0"].astype(np.int64) + Y_EXPONENT
    before = (2, 3) if layer == 4 else (layer - 1,)
    return np.concatenate([weights[f"units/exponents/{i}"].astype(np.int64) for i in before])


def integer_layer(weights: Weights, config: Config, layer: int) -> tuple[Array, Array, Array]:
    """Section 5, integer weights: kernel', bias' and the shifts s of a layer, all int64.

    The bias' of the context, layer 3, is that of every step: `[97,2M]`.
    """
    name = LAYERS[layer]
    kernel = weights[f"{name}/kernel"].astype(np.float64)
    e = weights[f"units/exponents/{layer}"].astype(np.int64)
    s = weights[f"units/shifts/{layer}"].astype(np.int64)
    if s.min() < 0:
        raise ValueError("a shift is negative")
    d = input_exponents(weights, config, layer)
    g = np.ones(len(e))
    if layer == last_layer(config) and has_log_scale(config):
        g[: config["M"]] = G
    # Powers of two first: they are exact, so that g is the one product that rounds.
    kernel = np.rint(np.ldexp(kernel, (d[:, None] - e + s).astype(np.int32)) * g).astype(np.int64)
    if layer == 3:
        return kernel, weights["units/bias/0"].astype(np.int64), s
    bias = weights[f"{name}/bias"].astype(np.float64)
    bias = np.rint(np.ldexp(bias, (s - e).astype(np.int32)) * g).astype(np.int64)
    return kernel, bias, s


def check_sums(kernel: Array, bias: Array, s: Array, maximum: Array, stride: int) -> None:
    """Section 5, layers: ValueError unless every sum stays within 2²⁴, rounding term included.

    maximum: the largest magnitudes of the input channels.
    """
    if np.abs(kernel).max() > MAX_WEIGHT:
        raise ValueError("an integer weight is beyond 16 bits")
    for a in range(stride):
        for b in range(stride):
            # A transposed convolution's output (p, q) has only the taps with the parities of p, q.
            taps = np.abs(kernel[a::stride, b::stride]) * maximum[:, None]
            if (taps.sum((0, 1, 2)) + np.abs(bias) + half(s)).max() > MAX_SUM:
                raise ValueError("the integer weights can exceed what float32 adds exactly")


def check_runs(kernel: Array, bias: Array, s: Array) -> None:
    """Section 5, layers: ValueError unless the sums of `deconv0` are exact, by eight channels."""
    for a in range(2):
        for b in range(2):
            by_channel = np.abs(kernel[a::2, b::2]).sum((0, 1)) * MAX_Z_HAT
            runs = [by_channel[i : i + 8].sum(0) for i in range(0, len(by_channel), 8)]
            if np.max(runs) > MAX_SUM or np.sum(runs, 0).max() > 2**30:
                raise ValueError("the integer weights can exceed what float32 adds exactly")
    if np.abs(kernel).max() > MAX_WEIGHT or (np.abs(bias) + half(s)).max() > MAX_ADDED:
        raise ValueError("an integer weight is beyond 16 bits, or a bias what int32 adds")


def check_parts(parts: list[Array], bias: Array, s: Array) -> None:
    """Section 6: the same for sums in parts `[inputs,outputs]`, which are added as int32."""
    for part in parts:
        if np.abs(part).max() > MAX_WEIGHT:
            raise ValueError("an integer weight is beyond 16 bits")
        if (np.abs(part).sum(0) * MAX_WIDE_FEATURE).max() > MAX_SUM:
            raise ValueError("the integer weights can exceed what float32 adds exactly")
    if (np.abs(bias) + half(s)).max() > MAX_ADDED:
        raise ValueError("a bias can exceed what int32 adds")


def half(s: Array) -> Array:
    """Section 5, layers: ⌊2^s / 2⌋."""
    return (1 << s) // 2


def mix(x: Array, matrix: Array) -> Array:
    """A tap of a convolution: from the input channels of x `[row, column, i]` to the outputs."""
    return np.tensordot(x, matrix, 1)


def convolve(x: Array, kernel: Array, bias: Array) -> Array:
    """Section 5, layers: the convolution, with zeros around the features."""
    rows, columns, _ = x.shape
    size = len(kernel)
    around = (size // 2, size // 2)
    padded = np.pad(x, (around, around, (0, 0)))
    out = np.zeros((rows, columns, kernel.shape[3]), x.dtype)
    for a in range(size):
        for b in range(size):
            out += mix(padded[a : a + rows, b : b + columns], kernel[a, b])
    return out + bias


def convolve_transposed(x: Array, kernel: Array, bias: Array) -> Array:
    """Section 5, layers: the transposed convolution with stride 2."""
    rows, columns, _ = x.shape
    # Entry (p + 2, q + 2) of `full` is output (p, q): some p and q fall outside of the output.
    full = np.zeros((2 * rows + 3, 2 * columns + 3, kernel.shape[3]), x.dtype)
    for a in range(5):
        for b in range(5):
            full[a : a + 2 * rows : 2, b : b + 2 * columns : 2] += mix(x, kernel[a, b])
    return full[2 : 2 + 2 * rows, 2 : 2 + 2 * columns] + bias


def activate(v: Array, architecture: str, low: Array | int, high: Array | int) -> Array:
    """Section 5, layers: the activation."""
    if architecture == "bmshj2018-hyperprior":
        negative = np.zeros_like(v)
    else:
        negative = 41 * np.maximum(v, -32768) + 2048 >> 12
    return np.clip(np.where(v < 0, negative, v), low, high)


def activation_bounds(weights: Weights, layer: int, channels: int) -> tuple[Array, Array]:
    """Section 5, layers: where the outputs of a hidden layer are clipped, `[channels]` each."""
    names = [f"units/{end}/{layer}" for end in ("low", "high")]
    if not any(name in weights for name in names):
        return np.full(channels, -MAX_FEATURE), np.full(channels, MAX_FEATURE)
    low, high = (weights[name].astype(np.int64) for name in names)
    if low.min() < -MAX_FEATURE or high.max() > MAX_FEATURE or np.any(low > high):
        raise ValueError("the bounds of a layer are out of range")
    return low, high


def log_of_scale(n: Array) -> Array:
    """Section 5, scale index: t of integers that are σ in units of 2⁻⁹."""
    values, inverse = np.unique(n, return_inverse=True)
    # n²⁵⁶ ≥ 2^(2k−1) says that n²⁵⁶ has at least 2k bits: bits // 2 of the k = 1, 2, … do it.
    counts = [min(3072, (v**256).bit_length() // 2) if v >= 1 else 0 for v in values.tolist()]
    return np.array(counts, np.int64)[inverse].reshape(n.shape) - 1152


def hyper_layers(weights: Weights, config: Config, z_hat: Array) -> Array:
    """Section 5, layers: the outputs of `conv2`, from ẑ int64 `[h,w,N]`."""
    v, maximum = z_hat, None
    for layer in range(3):
        kernel, bias, s = integer_layer(weights, config, layer)
        if layer == 0:
            check_runs(kernel, bias, s)
        else:
            check_sums(kernel, bias, s, maximum, stride=1 if layer == 2 else 2)
        v = (convolve if layer == 2 else convolve_transposed)(v, kernel, bias)
        v = v + half(s) >> s
        if layer < 2:
            low, high = activation_bounds(weights, layer, len(bias))
            v = activate(v, config["architecture"], low, high)
            maximum = np.maximum(np.abs(low), np.abs(high))
    return v


def split(config: Config, v: Array) -> tuple[Array, Array]:
    """Section 5, scale index and means: t and the means in units of 2^e, of the last layer."""
    t, mu = v[..., : config["M"]], v[..., config["M"] :]
    if not has_log_scale(config):
        t = log_of_scale(t)
    return t, np.zeros_like(t) if config["architecture"] == "bmshj2018-hyperprior" else mu


def hyper_synthesis(weights: Weights, config: Config, z_hat: Array) -> tuple[Array, Array]:
    """Section 5: t and the means in units of 2^e, from ẑ, of models without a context."""
    return split(config, hyper_layers(weights, config, z_hat))


def scale_index(t: Array, code: int) -> Array:
    """Section 5, scale index: which table of y."""
    return np.clip(t - code + 416 >> 4, 0, SCALES - 1)


def means(weights: Weights, config: Config, mu: Array) -> Array:
    """Section 5, means: μ as float64."""
    if config["architecture"] == "bmshj2018-hyperprior":
        return mu.astype(np.float64)
    e = weights[f"units/exponents/{last_layer(config)}"][config["M"] :]
    return np.ldexp(mu.astype(np.float64), e.astype(np.int32))


# Section 6: symbols of y, and the context model


def shifted_tables(index: Array, shifts: Array) -> Array:
    """Section 6: the tables of symbols of these scale indices `[…,M]`."""
    return np.clip(index + shifts, 0, SCALES - 1)


def coding_order(rows: int, columns: int) -> list[tuple[int, int]]:
    """Section 6: the positions (row, column) in the order of their symbols."""
    positions = [(r, k) for r in range(rows) for k in range(columns)]
    return sorted(positions, key=lambda p: (p[1] + 3 * p[0], p[0]))


def integer_step(code: int) -> int:
    """Section 6: D, the integer nearest to 2¹⁰ · Δ."""
    root = 1 << code + 1408
    for _ in range(7):  # the 128th root is a square root seven times
        root = math.isqrt(root)
    return root + 1 >> 1


class Context:
    """Section 6: the layers 3 … 6 on integers, for one step code."""

    def __init__(self, weights: Weights, config: Config, code: int):
        m, self.config, self.code = config["M"], config, code
        self.latent = weights["units/latent/0"].astype(np.int64)
        self.up = weights["units/exponents/6"][m:].astype(np.int64) - Y_EXPONENT
        if self.latent.shape != (m,) or self.latent.min() < 0 or self.latent.max() > 20:
            raise ValueError("a shift of latents is out of range")
        if self.up.min() < 0:
            raise ValueError("a mean's unit is finer than 1/64")
        kernel, bias, s = integer_layer(weights, config, 3)
        cuts = m * np.cumsum(ROWS[:2])
        check_parts(np.split(kernel.reshape(12 * m, 2 * m), cuts), bias, s)
        self.conv = kernel.reshape(12 * m, 2 * m), bias[code + 128 + 4 >> 3], s
        self.network = []
        for layer in (4, 5, 6):
            kernel, bias, s = integer_layer(weights, config, layer)
            if layer == 4:
                check_parts(np.split(kernel[0, 0], 2), bias, s)
            else:
                check_sums(kernel, bias, s, np.full(kernel.shape[2], MAX_WIDE_FEATURE), stride=1)
            self.network.append((kernel[0, 0], bias, s))

    def features(self, seen: Array) -> Array:
        """The context's features `[2M]` of what the 12 taps see, `[12 M]`."""
        matrix, bias, s = self.conv
        v = mix(seen, matrix) + bias + half(s) >> s
        return np.clip(v, -MAX_WIDE_FEATURE, MAX_WIDE_FEATURE)

    def parameters(self, psi: Array, features: Array) -> tuple[Array, Array]:
        """t and the means in units of 2^e, `[M]`, of a position."""
        v = np.concatenate([psi, features])
        for i, (matrix, bias, s) in enumerate(self.network):
            v = mix(v, matrix) + bias + half(s) >> s
            if i < 2:
                v = activate(v, self.config["architecture"], -MAX_WIDE_FEATURE, MAX_WIDE_FEATURE)
        return split(self.config, v)

    def reconstruct(self, q: Array, mu: Array, offset: Array) -> Array:
        """ŷ in units of 1/64, from integers `[M]`."""
        step = integer_step(self.code)
        size = np.minimum(512 * np.abs(q) - offset, 2**30 // step) * step + 4096 >> 13
        up = np.minimum(self.up, 40)  # where nothing is left of 2²⁰
        limit = 2**20 >> up
        return (np.clip(mu, -limit, limit) << up) + np.sign(q) * size

    def see(self, y_hat: Array) -> Array:
        """What later positions see of ŷ."""
        a = y_hat + half(self.latent) >> self.latent
        return np.clip(a, -MAX_WIDE_FEATURE, MAX_WIDE_FEATURE)


def decode_with_context(
    weights: Weights, config: Config, code: int, tile: Tile, psi: Array, shifts: Array
) -> tuple[Array, Array, Array]:
    """Section 6: y, scale indices and means in units of 2^e of `mbt2018`, from the hyper latent."""
    rows, columns, _ = psi.shape
    context = Context(weights, config, code)
    psi = np.clip(psi, -MAX_WIDE_FEATURE, MAX_WIDE_FEATURE)
    tables, low = read_tables(weights, "y_tables"), weights["y_tables/low"]
    y, index, mu = np.zeros((3, rows, columns, config["M"]), np.int64)
    decoder = IntegerDecoder(tile.y, y.size, tables, low)
    offsets = weights["offsets"][code + 128].astype(np.int64)
    # What is seen, at (row + 2, column + 2): zeros around it
    seen = np.zeros((rows + 2, columns + 4, config["M"]), np.int64)
    for r, k in coding_order(rows, columns):
        around = seen[r : r + 3, k : k + 5].reshape(-1, config["M"])[: sum(ROWS)]
        t, mu[r, k] = context.parameters(psi[r, k], context.features(around.ravel()))
        index[r, k] = scale_index(t, code)
        y[r, k] = decoder.take(shifted_tables(index[r, k], shifts))
        y_hat = context.reconstruct(y[r, k], mu[r, k], offsets[index[r, k]])
        seen[r + 2, k + 2] = context.see(y_hat)
    decoder.finish()
    return y, index, mu


def decode_tile(
    weights: Weights, config: Config, code: int, tile: Tile, blocks: tuple[int, int]
) -> Symbols:
    """Sections 1.3 and 2 to 6: the integers of a tile of so many rows and columns of blocks."""
    h, w = blocks
    tables, low = read_tables(weights, "z_tables"), weights["z_tables/low"]
    j = int(weights["z_step_index"][code + 128])
    index = np.tile(j * config["N"] + np.arange(config["N"]), h * w)
    if tile.shifted:
        index = np.append(index, np.full(config["M"], len(tables)))
    found = decode_integers(tile.z, [*tables, SHIFT_TABLE], np.append(low, SHIFT_LOW), index)
    z = found[: h * w * config["N"]].reshape(h, w, config["N"])
    shifts = found[z.size :] if tile.shifted else np.zeros(config["M"], np.int64)

    v = hyper_layers(weights, config, dequantise_z(weights, code, z))
    if config["architecture"] == "mbt2018":
        y, index, mu = decode_with_context(weights, config, code, tile, v, shifts)
    else:
        t, mu = split(config, v)
        index = scale_index(t, code)
        tables, low = read_tables(weights, "y_tables"), weights["y_tables/low"]
        if tile.refined:
            decoder = IntegerDecoder(tile.y, index.size, tables, low)
            y = refinement.decode(
                weights, code, index, lambda i: shifted_tables(i, shifts), decoder
            )
        else:
            y = decode_integers(tile.y, tables, low, shifted_tables(index, shifts))
    return Symbols(z, y, index, means(weights, config, mu))


def decode_symbols(weights: Weights, config: Config, data: bytes) -> Symbols:
    """Sections 1 to 6: everything of a file that is exact; ValueError if it is damaged."""
    container = read_stream(data)
    if container.model_id != compute_model_id(weights, config):
        raise ValueError("the file needs the weights of another model")
    if container.refinement_id not in (None, compute_refinement_id(weights)):
        raise ValueError("the file needs the weights with another refinement")
    h, w = grid(container)
    y, index = np.zeros((2, 4 * h, 4 * w, config["M"]), np.int64)
    whole = Symbols(np.zeros((h, w, config["N"]), np.int64), y, index, np.zeros(y.shape))
    if has_no_streams(container):
        return whole
    for tile, (rows, columns) in zip(container.tiles, tile_areas(container), strict=True):
        blocks = len(rows), len(columns)
        found = decode_tile(weights, config, container.code, tile, blocks)
        for array, part in zip(whole, found, strict=True):
            unit = len(part) // len(rows)
            r, k = rows.start * unit, columns.start * unit
            array[r : r + part.shape[0], k : k + part.shape[1]] = part
    return whole


def has_no_streams(container: Container) -> bool:
    """Section 7.3: whether all of the image is patched, and its tiles have no streams."""
    empty = Stream(1, b"", ())
    areas = tile_areas(container)
    return all(
        (tile.shifted, tile.refined, tile.z, tile.y) == (False, False, empty, empty)
        and tile.patch
        and pictures.patched_blocks(tile.patch, len(rows), len(columns)).all()
        for tile, (rows, columns) in zip(container.tiles, areas, strict=True)
    )


# Section 7: the image


def inverse_gdn(x: Array, b: Array, g: Array) -> Array:
    """Section 7: inverse generalised divisive normalisation."""
    pedestal = 2.0**-36
    beta = np.maximum(b.astype(np.float64), np.sqrt(1e-6 + pedestal)) ** 2 - pedestal
    gamma = np.maximum(g.astype(np.float64), 2.0**-18) ** 2 - pedestal
    return x * np.sqrt(beta + mix(x * x, gamma))


def synthesis(weights: Weights, y_hat: Array) -> Array:
    """Section 7: g_s, from ŷ to pixels around 0 … 1."""
    x = y_hat
    for layer in range(4):
        name = f"params/g_s/deconv{layer}"
        kernel, bias = weights[f"{name}/kernel"], weights[f"{name}/bias"]
        x = convolve_transposed(x, kernel.astype(np.float64), bias.astype(np.float64))
        if layer < 3:
            name = f"params/g_s/igdn{layer}"
            x = inverse_gdn(x, weights[f"{name}/beta"], weights[f"{name}/gamma"])
    return x


def synthesis_2026(
    weights: Weights, config: Config, container: Container, mu: Array, residual: Array
) -> Array:
    """Section 7.2: from the means of section 5 and ŷ - μ to pixels around 0 … 1."""
    params = jvrc2026.float_weights(weights)
    features = jvrc2026.step_features(params, 2.0 ** (container.code / 128))
    y_hat = np.zeros_like(mu)
    for rows, columns in tile_areas(container):
        at = tuple(slice(4 * r.start, 4 * r.stop) for r in (rows, columns))
        y_hat[at] = jvrc2026.reconstruct(params, config, mu[at], residual[at], features)
    return jvrc2026.synthesis(params, config, y_hat, features)


def image(weights: Weights, config: Config, data: bytes) -> Array:
    """Section 7: the image of a file, uint8 `[height, width, 3]`, grey `[height, width]`."""
    return image_of(weights, config, read_stream(data), decode_symbols(weights, config, data))


def image_of(weights: Weights, config: Config, container: Container, symbols: Symbols) -> Array:
    """Section 7: the same from what of it is decoded, computed in float64."""
    _, y, index, mu = symbols
    delta = weights["offsets"][container.code + 128].astype(np.float64)[index] / 512
    step = 2.0 ** (container.code / 128)
    residual = step * (y - np.sign(y) * delta)
    if config["architecture"] == "jvrc2026":
        x = synthesis_2026(weights, config, container, mu, residual)
    else:
        x = synthesis(weights, mu + residual)
    pixels = np.rint(255 * np.clip(np.nan_to_num(x), 0, 1)).astype(np.uint8)
    pixels = pixels[: container.height, : container.width]
    for tile, (rows, columns) in zip(container.tiles, tile_areas(container), strict=True):
        part = pixels[64 * rows.start : 64 * rows.stop, 64 * columns.start : 64 * columns.stop]
        if tile.patch:
            pictures.put_patch(tile.patch, part, len(rows), len(columns))
    if container.channels == 1:
        return ((pixels.astype(int).sum(axis=2) + 1) // 3).astype(np.uint8)
    return pixels


def alpha(data: bytes) -> Array | None:
    """Section 8: the alpha of a file's image, uint8 `[height, width]`; None if it has none."""
    container = read_stream(data)
    if not any(tile.alpha for tile in container.tiles):
        return None
    whole = np.zeros((container.height, container.width), np.uint8)
    for tile, (rows, columns) in zip(container.tiles, tile_areas(container), strict=True):
        part = whole[64 * rows.start : 64 * rows.stop, 64 * columns.start : 64 * columns.stop]
        part[:] = pictures.decode_alpha(tile.alpha, *part.shape)
    return whole


def metadata(data: bytes) -> pictures.Metadata:
    """Section 9: the colour profile, EXIF and XMP of a file."""
    return pictures.read_metadata(read_stream(data).others)


# The command


def digest(integers: Array) -> str:
    """The SHA-256 of integers as int32, little-endian, in row-major order."""
    return hashlib.sha256(integers.astype("<i4").tobytes()).hexdigest()


def main(arguments: list[str] | None = None) -> None:
    """Print the hashes of a stream's integers and write its image."""
    parser = argparse.ArgumentParser(description="Decode a jvrc stream, slowly.")
    parser.add_argument("weights", type=Path)
    parser.add_argument("stream", type=Path)
    parser.add_argument("-o", "--output", type=Path, help="the image, as PNG or another format")
    options = parser.parse_args(arguments)
    weights, config = load(options.weights)
    data = options.stream.read_bytes()
    symbols = decode_symbols(weights, config, data)
    for name in ("z", "y", "index"):
        print(name, digest(getattr(symbols, name)))
    if options.output:
        img, transparency = Image.fromarray(image(weights, config, data)), alpha(data)
        if transparency is not None:
            img.putalpha(Image.fromarray(transparency))
        img.save(options.output, icc_profile=metadata(data).icc)


if __name__ == "__main__":
    main()
