"""The command line: parse, call the library, print one line of result; nothing else.

Each command is a pair ``add_<command>``, ``_run_<command>`` in a module of this package, and an
entry in ``_COMMANDS``. Heavy imports (JAX) happen inside the ``_run_`` functions, behind the checks
that can fail without them, so help and mistakes answer at once.

Exit codes: 0 done, 1 an error (one line on stderr), 2 wrong usage, 130 interrupted, 141 nobody
reads the output.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence

from jvrc import __version__
from jvrc.cli.codec import add_compress, add_decompress
from jvrc.cli.demo import add_demo
from jvrc.cli.eval import add_eval
from jvrc.cli.interop import add_import_compressai
from jvrc.cli.listing import add_annotate, add_info, add_models
from jvrc.cli.plot import add_plot
from jvrc.cli.train import add_freeze, add_posttrain, add_train

# RuntimeError is what JAX raises where a device is missing or out of memory.
_REPORTED = (ValueError, OSError, ImportError, MemoryError, FloatingPointError, RuntimeError)

_COMMANDS = (
    add_compress,
    add_decompress,
    add_info,
    add_models,
    add_demo,
    add_eval,
    add_train,
    add_posttrain,
    add_freeze,
    add_annotate,
    add_import_compressai,
    add_plot,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code. Wrong usage leaves through SystemExit(2)."""
    args = build_parser().parse_args(argv)
    with warnings.catch_warnings():
        warnings.showwarning = _print_warning
        try:
            args.run(args)
            sys.stdout.flush()
        except KeyboardInterrupt:
            return 130
        except BrokenPipeError:  # who reads our output has enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + 13
        except _REPORTED as error:
            print(f"jvrc: error: {_one_line(error)}", file=sys.stderr)
            return 1
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of `jvrc` with all its commands."""
    parser = argparse.ArgumentParser(
        prog="jvrc",
        description="Learned image compression, one model for all rates.",
        epilog="`jvrc COMMAND --help` describes a command, with examples.",
    )
    parser.add_argument("--version", action="version", version=f"jvrc {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in _COMMANDS:
        add(subparsers)
    return parser


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, MemoryError):
        return "not enough memory"
    return " ".join(str(error).split()) or type(error).__name__


def _print_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"jvrc: warning: {' '.join(str(message).split())}", file=sys.stderr)
