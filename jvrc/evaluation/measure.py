"""Measuring codecs on images: bytes, distortion and times of each codec at each setting.

Every measured point is a real file, written and read back. Points are appended to a journal as they
are made, so that an interrupted run can go on where it stopped.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from jvrc.evaluation import metrics
from jvrc.io.files import write_bytes
from jvrc.io.images import read_image

JOURNAL = "points.jsonl"


class Coder(NamedTuple):
    """A codec and the settings to measure it at."""

    name: str  # unique in a comparison
    version: str  # points that the journal has of another version do not count
    unit: str  # of the settings: "qstep" or "quality"
    settings: tuple[float, ...]
    encode: Callable[[np.ndarray, float], bytes]  # of uint8 [H,W,3]
    decode: Callable[[bytes], np.ndarray]


@dataclass(frozen=True)
class Point:
    """The measurement of one image by one coder at one setting; a line of the journal.

    psnr, psnr_luma: dB, None if the image came back unchanged. ms_ssim, ssimulacra2: None for
    images with a side below 161 and 225 pixels. encode_s, decode_s: seconds by the clock;
    encode_cpu_s, decode_cpu_s: CPU time of all threads of the process, in seconds, which other work
    on the machine changes less.
    """

    image: str
    digest: str  # of the image's file
    height: int
    width: int
    coder: str
    version: str
    setting: float
    bytes: int
    bpp: float
    psnr: float | None
    psnr_luma: float | None
    ms_ssim: float | None
    ssimulacra2: float | None
    encode_s: float
    decode_s: float
    encode_cpu_s: float
    decode_cpu_s: float


def measure(paths: list[Path], coders: list[Coder], folder: Path, root: Path) -> list[Point]:
    """Measure all images with all coders; return points in the order of paths, coders, settings.

    Shows a progress bar on stderr.

    Args:
      paths: image files.
      coders: their names must differ.
      folder: has the journal. Points that it holds are not measured again, unless the image's file
        or the coder's version changed.
      root: the names of images are relative to it.
    """
    journal = folder / JOURNAL
    known = {_key(p): p for p in _read(journal)}
    # A killed run leaves half a line at the end.
    write_bytes(journal, b"".join(_line(p) for p in known.values()))
    found, warm = [], set()
    total = len(paths) * sum(len(c.settings) for c in coders)
    with (
        tqdm(total=total, desc="measuring", unit="point", leave=False, disable=None) as bar,
        journal.open("ab") as file,
    ):
        for path in paths:
            name, digest, img = path.relative_to(root).as_posix(), _digest(path), None
            for coder, setting in _settings(coders):
                point = known.get((digest, coder.name, coder.version, setting))
                if point is None:
                    img = read_image(path) if img is None else img
                    _warm_up(coder, img, warm)
                    point = _point(coder, setting, img, name, digest, folder)
                    file.write(_line(point))
                    file.flush()
                found.append(Point(**asdict(point) | {"image": name}))
                bar.update()
    return found


def _settings(coders: list[Coder]) -> Iterator[tuple[Coder, float]]:
    return ((coder, setting) for coder in coders for setting in coder.settings)


def _warm_up(coder: Coder, img: np.ndarray, done: set) -> None:
    """Code the image once, so that no timing includes the compilation for its size."""
    key = (coder.name, img.shape)
    if key not in done:
        coder.decode(coder.encode(img, coder.settings[0]))
        done.add(key)


def _point(
    coder: Coder, setting: float, img: np.ndarray, name: str, digest: str, folder: Path
) -> Point:
    data, encode_s, encode_cpu_s = _timed(coder.encode, img, setting)
    file = _written_and_read(data, folder / ".scratch")
    restored, decode_s, decode_cpu_s = _timed(coder.decode, file)
    height, width = img.shape[:2]
    return Point(
        image=name,
        digest=digest,
        height=height,
        width=width,
        coder=coder.name,
        version=coder.version,
        setting=setting,
        bytes=len(data),
        bpp=8 * len(data) / (height * width),
        **quality(img, restored),
        encode_s=encode_s,
        decode_s=decode_s,
        encode_cpu_s=encode_cpu_s,
        decode_cpu_s=decode_cpu_s,
    )


def _timed(function: Callable[..., Any], *args: Any) -> tuple[Any, float, float]:
    """Return the result, the seconds by the clock, and the CPU time of all threads."""
    begin, begin_cpu = time.perf_counter(), time.process_time()
    result = function(*args)
    return result, time.perf_counter() - begin, time.process_time() - begin_cpu


def _written_and_read(data: bytes, path: Path) -> bytes:
    try:
        path.write_bytes(data)
        return path.read_bytes()
    finally:
        path.unlink(missing_ok=True)


def quality(img: np.ndarray, restored: np.ndarray) -> dict[str, float | None]:
    """Return psnr, psnr_luma, ms_ssim and ssimulacra2, as in `Point`."""
    return {
        "psnr": _finite(metrics.psnr(img, restored)),
        "psnr_luma": _finite(metrics.psnr_luma(img, restored)),
        "ms_ssim": _from(metrics.MS_SSIM_MIN_SIDE, metrics.ms_ssim, img, restored),
        "ssimulacra2": _from(metrics.SSIMULACRA2_MIN_SIDE, metrics.ssimulacra2, img, restored),
    }


def _from(
    side: int, metric: Callable[..., float], img: np.ndarray, restored: np.ndarray
) -> float | None:
    """Return the metric of images whose sides are at least `side` pixels, None of smaller ones."""
    return metric(img, restored) if min(img.shape[:2]) >= side else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _key(point: Point) -> tuple:
    return point.digest, point.coder, point.version, point.setting


def _line(point: Point) -> bytes:
    return json.dumps(asdict(point)).encode() + b"\n"


def _read(journal: Path) -> Iterator[Point]:
    """Yield the points of a journal, which may end in the middle of a line."""
    lines = journal.read_bytes().splitlines() if journal.exists() else []
    for line in lines:
        try:
            fields: dict[str, Any] = json.loads(line)
            yield Point(**fields)
        except (ValueError, TypeError):
            continue
