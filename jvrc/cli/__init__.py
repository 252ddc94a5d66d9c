"""The command line `jvrc`: parse arguments, call the library, print a line of result.

Each command is a pair of functions in a module of this package, `add_<command>` (its arguments) and
`_run_<command>`, and an entry in `_COMMANDS`. A module is imported when its command is needed, and
the `_run_` functions import JAX and other large packages themselves, after the checks that need
none: so help and mistakes take no time. This module imports little before `run` sets up SIGINT.

Exit codes: 0 done, 1 error (one line on stderr), 2 wrong usage, 129 ended (SIGHUP), 130
interrupted (SIGINT), 141 the reader of the output has closed it (SIGPIPE), 143 ended (SIGTERM).
"""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn

from jvrc import __version__
from jvrc.cli.messages import REPORTED, UsageError, note, one_line
from jvrc.runtime import devices, interrupts, streams

if TYPE_CHECKING:
    import argparse  # when `run` has set up SIGINT

# Each command and the module that has its functions.
_COMMANDS = {
    "compress": "compress",
    "decompress": "decompress",
    "info": "describe",
    "models": "describe",
    "demo": "demo",
    "eval": "eval",
    "pack": "pack",
    "train": "train",
    "posttrain": "train",
    "freeze": "freeze",
    "refine": "refine",
    "annotate": "describe",
    "import-compressai": "interop",
    "plot": "plot",
}
# They leave nothing behind that the interpreter's cleaning up, which takes 0.1 s, is needed for.
_LIGHT = ("compress", "decompress", "info", "models")


def run() -> NoReturn:
    """Run `jvrc` as a process: set up streams and SIGINT, call `main`, exit with its code."""
    streams.repair()
    interrupts.install(_remove_unfinished)
    devices.add_cpu()
    try:
        code = main()
    except SystemExit as stop:  # help, or wrong usage
        interrupts.leave(stop.code)
    except KeyboardInterrupt:
        code = interrupts.EXIT_CODE
    if code:
        _remove_unfinished()
    if code or sys.argv[1] in _LIGHT:
        interrupts.leave(code)
    sys.exit(code)


def _remove_unfinished() -> None:
    """Delete temporary files, if the module that makes them has been imported."""
    if files := sys.modules.get("jvrc.io.files"):
        files.remove_unfinished()


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; wrong usage raises SystemExit(2), or returns 2."""
    argv = sys.argv[1:] if argv is None else argv
    args = build_parser(argv[0] if argv else None).parse_args(argv)
    with _warnings_on_one_line():
        try:
            args.run(args)
            sys.stdout.flush()
        except KeyboardInterrupt:
            return interrupts.EXIT_CODE
        except BrokenPipeError:
            # The interpreter flushes stdout once more at exit, and must not fail then.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        except REPORTED as error:
            print(f"jvrc: error: {one_line(error)}", file=sys.stderr)
            return 2 if isinstance(error, UsageError) else 1
    return 0


def build_parser(command: str | None = None) -> "argparse.ArgumentParser":
    """Return the parser of `jvrc` with all its commands, or with the one that will be parsed."""
    import argparse

    parser = argparse.ArgumentParser(
        prog="jvrc",
        description="Learned image compression, one model for all rates.",
        epilog="`jvrc COMMAND --help` describes a command, with examples.",
    )
    parser.add_argument("--version", action="version", version=f"jvrc {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in [command] if command in _COMMANDS else _COMMANDS:
        module = import_module(f"jvrc.cli.{_COMMANDS[name]}")
        getattr(module, f"add_{name.replace('-', '_')}")(subparsers)
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
    if os.path.basename(os.path.dirname(filename)) == "PIL":
        return  # odd metadata or many pixels: nothing that the user has to know
    from jvrc.runtime import compile_cache

    if compile_cache.heal(str(message)):
        return  # JAX compiles the program anew
    note(f"jvrc: warning: {' '.join(str(message).split())}")
