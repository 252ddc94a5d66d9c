"""The options of `compress` that choose the rate, one of four: --qstep, --bytes, --bpp, --psnr."""

import argparse
import math
import re
from typing import Any

from jvrc.cli.common import parse_qstep
from jvrc.qstep import QSTEP_MAX, QSTEP_MIN

_DEFAULT_QSTEP = 2.0
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_SIZE = re.compile(r"(\d+\.?\d*|\.\d+) *([kmg]i?)?b?", re.IGNORECASE)


def add_rate_options(parser: argparse.ArgumentParser) -> None:
    """Add --qstep and the targets that exclude it."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--qstep",
        metavar="Q",
        type=parse_qstep,
        help=f"quantisation step, {QSTEP_MIN:g} (highest quality) to "
        f"{QSTEP_MAX:g} (fewest bytes); default: {_DEFAULT_QSTEP:g}",
    )
    group.add_argument(
        "--bytes",
        metavar="N",
        dest="target_bytes",
        type=parse_size,
        help="search the qstep that gives a file of at most N bytes; 12000, 12k, 1.5M, 64Ki",
    )
    group.add_argument(
        "--bpp",
        metavar="B",
        dest="target_bpp",
        type=parse_positive,
        help="the same for B bits per pixel",
    )
    group.add_argument(
        "--psnr",
        metavar="P",
        dest="target_psnr",
        type=parse_positive,
        help="search the qstep that reaches P dB",
    )


def rate_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return the option of `jvrc.compress` that the command line asks for."""
    names = ("qstep", "target_bytes", "target_bpp", "target_psnr")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return given or {"qstep": _DEFAULT_QSTEP}


def parse_size(text: str) -> int:
    """Return a number of bytes; k, M and G are powers of 1000, Ki, Mi and Gi of 1024.

    Raises:
      ArgumentTypeError: not a positive number with one of these units.
    """
    found = _SIZE.fullmatch(text.strip())
    number = float(found[1]) * _UNITS[(found[2] or "").lower()] if found else 0.0
    size = int(number) if math.isfinite(number) else 0
    if not size:
        raise argparse.ArgumentTypeError(f"must be bytes as in 12000, 12k or 1.5M, got {text}")
    return size


def parse_positive(text: str) -> float:
    """Return a positive finite number; ArgumentTypeError for anything else."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive number, got {text}")
    return value
