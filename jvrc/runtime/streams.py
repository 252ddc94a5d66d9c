"""The standard streams of a process: open, and able to print any text."""

import codecs
import os
import sys
from typing import TextIO

_ERRORS = "jvrc.plain"
# What stands for the characters of our messages where an encoding lacks them.
_PLAIN = {
    **{"…": "...", "–": "-", "−": "-", "×": "x", "·": "*", "²": "2", "≤": "<=", "≥": ">="},
    **{"→": "->", "“": '"', "”": '"', "‘": "'", "’": "'", "µ": "u", "ŷ": "y^", "ẑ": "z^"},
    **{"Δ": "Delta", "δ": "delta", "λ": "lambda", "σ": "sigma", "μ": "mu"},
}

_closed: set[int] = set()  # descriptors that were closed when the process began


def was_closed(descriptor: int) -> bool:
    """Return True if a standard stream was closed when the process began: what it gets is lost."""
    return descriptor in _closed


def repair() -> None:
    """Open the standard streams that are closed, to nowhere, and let the others print any text.

    A closed descriptor would be given to the next file that is opened, and what a library prints
    would end up in it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, which is this one
            _closed.add(descriptor)
    codecs.register_error(_ERRORS, _plain)
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = _printing(sys.stdout, 1)
    sys.stderr = _printing(sys.stderr, 2)


def _printing(stream: TextIO | None, descriptor: int) -> TextIO:
    if stream is None:
        return os.fdopen(descriptor, "w", encoding="utf-8", errors=_ERRORS, closefd=False)
    stream.reconfigure(errors=_ERRORS)
    return stream


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    """Replace one character that an encoding lacks; an undecodable byte of a file name stays."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if "\udc80" <= character <= "\udcff":
        return bytes([ord(character) - 0xDC00]), error.start + 1
    return _PLAIN.get(character, "?"), error.start + 1
