"""Small ICC profiles for tests, built from ICC.1:2001."""

import functools
import struct
from io import BytesIO

import numpy as np
from PIL import ImageCms


@functools.cache  # LittleCMS writes the time into it
def srgb() -> bytes:
    """The profile of sRGB."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def wide_rgb() -> bytes:
    """A profile of RGB with primaries far outside of sRGB's, and its tone curve."""
    primaries = {b"rXYZ": (0.7977, 0.2880, 0.0), b"gXYZ": (0.1352, 0.7119, 0.0)}
    primaries[b"bXYZ"] = (0.0313, 0.0001, 0.8249)
    curve = b"curv" + struct.pack(">IIH", 0, 1, round(2.2 * 256))
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    return _profile(b"RGB ", b"XYZ ", {k: _xyz(*v) for k, v in primaries.items()} | curves)


def grey(gamma: float) -> bytes:
    """A profile of grey with this gamma."""
    curve = b"curv" + struct.pack(">IIH", 0, 1, round(gamma * 256))
    return _profile(b"GRAY", b"XYZ ", {b"kTRC": curve})


def cmyk() -> bytes:
    """A profile of CMYK by which each ink takes light of one Lab axis, and black all."""
    inks = np.stack(np.meshgrid(*[[0.0, 1.0]] * 4, indexing="ij"), axis=-1)  # [2,2,2,2,4]
    c, m, y, k = np.moveaxis(inks, -1, 0)
    light = (1 - k) * (1 - 0.3 * c - 0.3 * m - 0.1 * y)
    lab = np.stack([255 * light, 128 + (m - c) * 60 * (1 - k), 128 + y * 80 * (1 - k)], axis=-1)
    identity = np.arange(256, dtype=np.uint8).tobytes()
    matrix = struct.pack(">9i", *(65536 * np.eye(3, dtype=int)).ravel())
    table = b"mft1" + struct.pack(">IBBBx", 0, 4, 3, 2) + matrix
    table += 4 * identity + np.rint(lab).clip(0, 255).astype(np.uint8).tobytes() + 3 * identity
    return _profile(b"CMYK", b"Lab ", {b"A2B0": table})


def _xyz(x: float, y: float, z: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(65536 * v) for v in (x, y, z)))


def _profile(space: bytes, pcs: bytes, tags: dict[bytes, bytes]) -> bytes:
    name = b"a profile of tests\0"
    desc = b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(78)
    tags = {b"desc": desc, b"wtpt": _xyz(0.9642, 1.0, 0.8249)} | tags
    at, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for signature, data in tags.items():
        data += bytes(-len(data) % 4)
        table += signature + struct.pack(">II", at + len(body), len(data))
        body += data
    kind = b"prtr" if space == b"CMYK" else b"mntr"
    head = struct.pack(">I4s4s", at + len(body), b"lcms", bytes.fromhex("02400000"))
    head += kind + space + pcs + struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp"
    head += bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head + bytes(128 - len(head)) + struct.pack(">I", len(tags)) + table + body


def open_profile(data: bytes) -> ImageCms.ImageCmsProfile:
    """The profile as LittleCMS reads it."""
    return ImageCms.ImageCmsProfile(BytesIO(data))
