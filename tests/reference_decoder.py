"""A decoder of jvrc streams, written from `jvrc/coding/FORMAT.md` alone.

It shares no code with jvrc and favours plainness over speed: what it decodes shows that the page
says enough, and that jvrc does what the page says. "Section" below means a section of that page.

    python tests/reference_decoder.py WEIGHTS STREAM [-o OUT.png]
"""

import argparse
import hashlib
import json
import zlib
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from safetensors import safe_open

Array = np.ndarray
Weights = dict[str, Array]
Config = dict[str, Any]

MAGIC = b"JVRC"
VERSION = 1
MAX_LOG_LANES = 12
MAX_ESCAPE = 2**20
MIN_CODE, MAX_CODE = -128, 640
TOTAL = 2**16  # what the frequencies of a table sum to; also the smallest state of a lane
MAX_Z_HAT = 2047
MAX_FEATURE = 255
MAX_SUM = 2**24
MAX_WEIGHT = 32767
Z_EXPONENT = -4
SCALES = 90
G = 184.6649652337873  # 128 / ln 2


class Stream(NamedTuple):
    """One stream of symbols: the lanes of its range coder, its words and its escape values."""

    lanes: int
    words: bytes
    escapes: tuple[int, ...]


class Container(NamedTuple):
    """What a file holds."""

    model_id: str
    height: int
    width: int
    code: int
    z: Stream
    y: Stream


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
    """Section 1: the fields of a file; ValueError if it is damaged."""
    if data[:4] != MAGIC:
        raise ValueError("not a jvrc file")
    if data[4:5] != bytes([VERSION]):
        raise ValueError("another version of the format, or damaged")
    if len(data) < 13 or zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise ValueError("damaged: wrong checksum")
    data = data[:-4]
    model_id, at = data[5:9].hex(), 9
    height, at = read_varint(data, at)
    width, at = read_varint(data, at)
    value, at = read_varint(data, at)
    code = unzigzag(value)
    if not height or not width:
        raise ValueError("damaged: no pixels")
    if not MIN_CODE <= code <= MAX_CODE:
        raise ValueError("damaged: the step code is out of range")
    descriptions = []
    for _ in "zy":
        if at >= len(data):
            raise ValueError("damaged: the data end within the header")
        log_lanes = data[at]
        if log_lanes > MAX_LOG_LANES:
            raise ValueError("damaged: too many lanes")
        words, at = read_varint(data, at + 1)
        escapes, at = read_varint(data, at)
        descriptions.append((1 << log_lanes, words, escapes))
    if len(data) - at != sum(words + escapes for _, words, escapes in descriptions):
        raise ValueError("damaged: the lengths of the streams do not fit that of the file")
    streams = []
    for lanes, words, escapes in descriptions:
        middle, end = at + words, at + words + escapes
        streams.append(Stream(lanes, data[at:middle], read_escapes(data[middle:end])))
        at = end
    return Container(model_id, height, width, code, *streams)


def grid(container: Container) -> tuple[int, int]:
    """Section 1: rows and columns of z."""
    return -(-container.height // 64), -(-container.width // 64)


# Sections 2 and 3: symbols


def decode_range(words: bytes, tables: list[Array], index: Array, lanes: int, check=True) -> Array:
    """Section 2: the symbols of a stream, in the shape of `index`.

    Args:
        words: the bytes of the range coder's words.
        tables: the frequencies of each table.
        index: int [...], for each symbol its table.
        lanes: the number of lanes.
        check: whether damage is looked for, with ValueError where it is found. If not, zeros
            follow the last word and whatever the stream ends in is accepted.
    """
    order = np.asarray(index).ravel().tolist()
    starts = {}
    for t in set(order):
        frequencies = tables[t].tolist()
        if min(frequencies) < 1 or sum(frequencies) != TOTAL:
            raise ValueError("not a table of frequencies")
        starts[t] = [0, *accumulate(frequencies)]

    used = min(lanes, len(order))
    if check and (len(words) < 4 * used or len(words) % 2):
        raise ValueError("damaged: too few words, or half a word")
    words = words.ljust(4 * used, b"\0")
    states = np.frombuffer(words, "<u4", used).tolist()
    if check and any(x < TOTAL for x in states):
        raise ValueError("damaged: a state is out of range")
    rest = np.frombuffer(words, "<u2", (len(words) - 4 * used) // 2, 4 * used).tolist()

    at, symbols = 0, []
    for i, t in enumerate(order):
        start = starts[t]
        x = states[i % lanes]
        r = x % TOTAL
        s = bisect_right(start, r) - 1
        x = (start[s + 1] - start[s]) * (x // TOTAL) + r - start[s]
        if x < TOTAL:
            if check and at >= len(rest):
                raise ValueError("damaged: the words run out")
            x = x * TOTAL + (rest[at] if at < len(rest) else 0)
            at += 1
        states[i % lanes] = x
        symbols.append(s)
    if check and (at != len(rest) or any(x != TOTAL for x in states)):
        raise ValueError("damaged: the range coder does not end where it should")
    return np.array(symbols, np.int64).reshape(np.shape(index))


def decode_integers(stream: Stream, tables: list[Array], low: Array, index: Array) -> Array:
    """Section 3: the integers of a stream, in the shape of `index`, its tables."""
    symbols = decode_range(stream.words, tables, index, stream.lanes)
    last = np.array([len(table) - 1 for table in tables], np.int64)
    escaped = symbols == last[index]
    if np.count_nonzero(escaped) != len(stream.escapes):
        raise ValueError("damaged: wrong number of escape values")
    integers = low.astype(np.int64)[index] + symbols
    integers[escaped] = stream.escapes
    return integers


# Section 4: the weights


def load(path: str | Path) -> tuple[Weights, Config]:
    """Section 4: the tensors and the `config` of a weights file."""
    with safe_open(path, framework="np") as file:
        config = json.loads(file.metadata()["jvrc"])["config"]
        return {name: file.get_tensor(name) for name in file.keys()}, config  # noqa: SIM118


def compute_model_id(weights: Weights, config: Config) -> str:
    """Section 4: the model id, as eight hex digits."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name in sorted(weights):
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
    """Section 5, symbols of z: ẑ, in units of 1/16."""
    j = weights["z_step_index"][code + 128]
    z_hat = weights["medians"].astype(np.int64) + int(weights["z_steps"][j]) * z
    return np.clip(z_hat, -MAX_Z_HAT, MAX_Z_HAT)


def integer_layer(weights: Weights, config: Config, layer: int) -> tuple[Array, Array, Array]:
    """Section 5, integer weights: kernel', bias' and the shifts s of a layer, all int64."""
    name = f"params/h_s/{('deconv0', 'deconv1', 'conv2')[layer]}"
    kernel = weights[f"{name}/kernel"].astype(np.float64)
    bias = weights[f"{name}/bias"].astype(np.float64)
    e = weights[f"units/exponents/{layer}"].astype(np.int64)
    s = weights[f"units/shifts/{layer}"].astype(np.int64)
    if layer:
        d = weights[f"units/exponents/{layer - 1}"].astype(np.int64)
    else:
        d = np.full(kernel.shape[2], Z_EXPONENT)
    g = np.ones(len(e))
    if layer == 2 and config["log_scale"]:
        g[: config["M"]] = G
    # Powers of two first: they are exact, so that g is the one product that rounds.
    kernel = np.ldexp(kernel, (d[:, None] - e + s).astype(np.int32)) * g
    bias = np.ldexp(bias, (s - e).astype(np.int32)) * g
    return np.rint(kernel).astype(np.int64), np.rint(bias).astype(np.int64), s


def check_sums(kernel: Array, bias: Array, s: Array, maximum: int, stride: int) -> None:
    """Section 5, layers: ValueError unless every sum stays within 2²⁴, rounding term included."""
    if np.abs(kernel).max() > MAX_WEIGHT:
        raise ValueError("an integer weight is beyond 16 bits")
    for a in range(stride):
        for b in range(stride):
            # A transposed convolution's output (p, q) has only the taps with the parities of p, q.
            total = np.abs(kernel[a::stride, b::stride]).sum((0, 1, 2))
            if (total * maximum + np.abs(bias) + half(s)).max() > MAX_SUM:
                raise ValueError("the integer weights can exceed what float32 adds exactly")


def half(s: Array) -> Array:
    """Section 5, layers: ⌊2^s / 2⌋."""
    return (1 << s) // 2


def mix(x: Array, matrix: Array) -> Array:
    """A tap of a convolution: from the input channels of x `[row, column, i]` to the outputs."""
    return np.tensordot(x, matrix, 1)


def convolve(x: Array, kernel: Array, bias: Array) -> Array:
    """Section 5, layers: the convolution, with zeros around the features."""
    rows, columns, _ = x.shape
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    out = np.zeros((rows, columns, kernel.shape[3]), x.dtype)
    for a in range(3):
        for b in range(3):
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


def activate(v: Array, architecture: str) -> Array:
    """Section 5, layers: the activation."""
    if architecture == "mbt2018-mean":
        negative = 41 * np.maximum(v, -32768) + 2048 >> 12
    else:
        negative = np.zeros_like(v)
    return np.clip(np.where(v < 0, negative, v), -MAX_FEATURE, MAX_FEATURE)


def log_of_scale(n: Array) -> Array:
    """Section 5, scale index: t of integers that are σ in units of 2⁻⁹."""
    values, inverse = np.unique(n, return_inverse=True)
    # n²⁵⁶ ≥ 2^(2k−1) says that n²⁵⁶ has at least 2k bits: bits // 2 of the k = 1, 2, … do it.
    counts = [min(3072, (v**256).bit_length() // 2) if v >= 1 else 0 for v in values.tolist()]
    return np.array(counts, np.int64)[inverse].reshape(n.shape) - 1152


def hyper_synthesis(weights: Weights, config: Config, z_hat: Array) -> tuple[Array, Array]:
    """Section 5, layers: t and the means in units of 2^e, from ẑ int64 `[h,w,N]`."""
    v, maximum = z_hat, MAX_Z_HAT
    for layer in range(3):
        kernel, bias, s = integer_layer(weights, config, layer)
        check_sums(kernel, bias, s, maximum, stride=1 if layer == 2 else 2)
        v = (convolve if layer == 2 else convolve_transposed)(v, kernel, bias)
        v = v + half(s) >> s
        if layer < 2:
            v, maximum = activate(v, config["architecture"]), MAX_FEATURE
    t, mu = v[..., : config["M"]], v[..., config["M"] :]
    if not config["log_scale"]:
        t = log_of_scale(t)
    return t, mu if config["architecture"] == "mbt2018-mean" else np.zeros_like(t)


def scale_index(t: Array, code: int) -> Array:
    """Section 5, scale index: which table of y."""
    return np.clip(t - code + 416 >> 4, 0, SCALES - 1)


def means(weights: Weights, config: Config, mu: Array) -> Array:
    """Section 5, means: μ as float64."""
    if config["architecture"] != "mbt2018-mean":
        return mu.astype(np.float64)
    e = weights["units/exponents/2"][config["M"] :]
    return np.ldexp(mu.astype(np.float64), e.astype(np.int32))


def decode_symbols(weights: Weights, config: Config, data: bytes) -> Symbols:
    """Sections 1 to 6: everything of a file that is exact; ValueError if it is damaged."""
    container = read_stream(data)
    if container.model_id != compute_model_id(weights, config):
        raise ValueError("the file needs the weights of another model")
    h, w = grid(container)
    tables, low = read_tables(weights, "z_tables"), weights["z_tables/low"]
    j = int(weights["z_step_index"][container.code + 128])
    index = np.broadcast_to(j * config["N"] + np.arange(config["N"]), (h, w, config["N"]))
    z = decode_integers(container.z, tables, low, index)

    t, mu = hyper_synthesis(weights, config, dequantise_z(weights, container.code, z))
    index = scale_index(t, container.code)
    tables, low = read_tables(weights, "y_tables"), weights["y_tables/low"]
    y = decode_integers(container.y, tables, low, index)
    return Symbols(z, y, index, means(weights, config, mu))


# Section 7: the picture


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


def picture(weights: Weights, config: Config, data: bytes) -> Array:
    """Section 7: the picture of a file, uint8 `[height, width, 3]`, computed in float64."""
    container = read_stream(data)
    _, y, index, mu = decode_symbols(weights, config, data)
    delta = weights["offsets"][container.code + 128].astype(np.float64)[index] / 512
    step = 2.0 ** (container.code / 128)
    x = synthesis(weights, mu + step * (y - np.sign(y) * delta))
    pixels = np.rint(255 * np.clip(np.nan_to_num(x), 0, 1)).astype(np.uint8)
    return pixels[: container.height, : container.width]


# The command


def digest(integers: Array) -> str:
    """The SHA-256 of integers as int32, little-endian, in row-major order."""
    return hashlib.sha256(integers.astype("<i4").tobytes()).hexdigest()


def main(arguments: list[str] | None = None) -> None:
    """Print the hashes of a stream's integers and write its picture."""
    parser = argparse.ArgumentParser(description="Decode a jvrc stream, slowly.")
    parser.add_argument("weights", type=Path)
    parser.add_argument("stream", type=Path)
    parser.add_argument("-o", "--output", type=Path, help="the picture, as PNG or another format")
    options = parser.parse_args(arguments)
    weights, config = load(options.weights)
    data = options.stream.read_bytes()
    symbols = decode_symbols(weights, config, data)
    for name in ("z", "y", "index"):
        print(name, digest(getattr(symbols, name)))
    if options.output:
        Image.fromarray(picture(weights, config, data)).save(options.output)


if __name__ == "__main__":
    main()
