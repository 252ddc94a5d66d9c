"""Lines of text for the user, on stderr, and what ends a command with one."""

import sys


class UsageError(ValueError):
    """Options that do not go together: wrong usage that the parser does not see."""


def note(line: str) -> None:
    """Print a line on stderr, above a progress bar if one is shown."""
    if tqdm := sys.modules.get("tqdm"):
        tqdm.tqdm.write(line, file=sys.stderr)
    else:
        print(line, file=sys.stderr)


def counted(number: int, noun: str) -> str:
    """Return "1 file" or "2 files"."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


# What errors of the user, of files and of the machine raise. JAX raises RuntimeError if a device is
# missing or out of memory.
REPORTED = (ValueError, OSError, ImportError, MemoryError, FloatingPointError, RuntimeError)


def one_line(error: BaseException) -> str:
    """Return what an error says, on one line."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, MemoryError):
        return "not enough memory"
    return " ".join(str(error).split()) or type(error).__name__
