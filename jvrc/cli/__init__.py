"""The command line `jvrc`: parse arguments, call the library, print a line of result.

Each command is a pair of functions in a module of this package, `add_<command>` (its arguments) and
`_run_<command>`, and an entry in `_COMMANDS`. The `_run_` functions import JAX and other large
packages themselves, after the checks that need none, so that help and mistakes take no time.

Exit codes: 0 done, 1 error (one line on stderr), 2 wrong usage, 130 interrupted (SIGINT), 141 the
reader of the output has closed it (SIGPIPE).
"""

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from jvrc import __version__
from jvrc.cli.compress import add_compress
from jvrc.cli.decompress import add_decompress
from jvrc.cli.demo import add_demo
from jvrc.cli.eval import add_eval
from jvrc.cli.interop import add_import_compressai
from jvrc.cli.listing import add_annotate, add_info, add_models
from jvrc.cli.plot import add_plot
from jvrc.cli.train import add_freeze, add_posttrain, add_train

# JAX raises RuntimeError if a device is missing or out of memory.
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
    """Run one command and return its exit code; wrong usage raises SystemExit(2)."""
    args = build_parser().parse_args(argv)
    with _warnings_on_one_line():
        try:
            args.run(args)
            sys.stdout.flush()
        except KeyboardInterrupt:
            return 130
        except BrokenPipeError:
            # The interpreter flushes stdout once more at exit, and must not fail then.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        except _REPORTED as error:
            from jvrc.cli.common import one_line

            print(f"jvrc: error: {one_line(error)}", file=sys.stderr)
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


@contextlib.contextmanager
def _warnings_on_one_line() -> Iterator[None]:
    """Print warnings as one line each inside this context.

    It replaces `warnings.showwarning` alone: the filters are shared by all threads.
    """
    shown = warnings.showwarning
    warnings.showwarning = _print_warning
    try:
        yield
    finally:
        warnings.showwarning = shown


def _print_warning(
    message: Warning | str, category: type[Warning], filename: str, *_: object, **__: object
) -> None:
    if Path(filename).parent.name == "PIL":
        return  # odd metadata or many pixels: nothing that the user has to know
    from jvrc.cli.common import note

    note(f"jvrc: warning: {' '.join(str(message).split())}")
