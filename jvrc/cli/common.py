"""Shared by the commands: options and their values, importing JAX, lines that are printed."""

import argparse
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jvrc.cli.messages import UsageError, note
from jvrc.errors import BitstreamError
from jvrc.frozen import zoo
from jvrc.qstep import QSTEP_MAX, QSTEP_MIN, qstep_code_of
from jvrc.runtime import compile_cache, devices, memory

STANDARD = Path("-")  # standard input or output
DEFAULT_MODEL = zoo.DEFAULT
MODEL_HELP = "a shipped model's name or id (see `jvrc models`), a weights file or a run's folder"
# Keys of a weights file's header that jvrc itself writes or reads.
_RESERVED = (
    *("recipe", "config", "params", "qstep_range", "format", "model_id"),
    *("calibration", "encoder", "fingerprint", "imported", "measured", "refinement"),
)
_CALIBRATION_IMAGES, _CALIBRATION_CROP = 64, 384  # their number, and their side in pixels


def add_command(
    subparsers: Any, name: str, run: Callable[..., None], summary: str, *examples: str
) -> argparse.ArgumentParser:
    """Add a command with help and examples but no arguments; return its parser."""
    parser = subparsers.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog="\n  ".join(["examples:", *examples]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def add_output(parser: argparse.ArgumentParser, metavar: str, text: str) -> None:
    """Add -o and --force."""
    parser.add_argument("-o", "--output", metavar=metavar, type=parse_path, help=text)
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")


def add_freezing_options(parser: argparse.ArgumentParser) -> None:
    """Add --note and --data, options of the commands that write weights files."""
    parser.add_argument(
        "--note", action="append", default=[], metavar="KEY=TEXT", help="a line for the header"
    )
    parser.add_argument(
        "--data", metavar="DIR", type=parse_path, help="fit the CDF tables to some of these images"
    )


def parse_qstep(text: str) -> float:
    """Return the quantisation step that an option names.

    Raises:
      ArgumentTypeError: not a number in QSTEP_MIN ... QSTEP_MAX.
    """
    try:
        value = float(text)
        qstep_code_of(value)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be a number in {QSTEP_MIN:g} ... {QSTEP_MAX:g}, got {text}"
        ) from None
    return value


def parse_numbers(text: str) -> tuple[float, ...]:
    """Return numbers with commas between; ArgumentTypeError if a part is none."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"must be numbers with commas between; got {text!r}"
        ) from error


def parse_path(text: str) -> Path:
    """Return the path that an argument names; ArgumentTypeError if it is empty."""
    return Path(parse_name(text))


def parse_name(text: str) -> str:
    """Return the name of a file or folder as it is; ArgumentTypeError if it is empty.

    An empty one, as of an unset variable of a shell, would be the current folder.
    """
    if not text:
        raise argparse.ArgumentTypeError("must name a file or a folder, got an empty text")
    return text


def parse_notes(pairs: list[str]) -> dict[str, str]:
    """Return the values of --note by key; UsageError for no pair, or a key that jvrc uses."""
    for pair in pairs:
        key, equals, _ = pair.partition("=")
        if not equals or key in _RESERVED:
            raise UsageError(
                f"--note must be KEY=TEXT, KEY none of {', '.join(_RESERVED)}; got {pair!r}"
            )
    return dict(pair.split("=", 1) for pair in pairs)


def calibrated(model: Any, photographs: Any) -> Any:
    """Return the model with CDF tables and fixed-point formats fitted to some training images."""
    from jvrc.export import calibration
    from jvrc.training.data import batches

    size, limit = _CALIBRATION_CROP, _CALIBRATION_IMAGES
    images = batches.centres_of_blocks(photographs.train, size=size, limit=limit)
    return calibration.calibrate(model, images)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let the error of a damaged stream name its file."""
    try:
        yield
    except BitstreamError as error:
        raise BitstreamError(f"{name_of(path)}: {error}") from error


def name_of(source: Path) -> str:
    """Return what to call an input in messages."""
    return "standard input" if source == STANDARD else str(source)


def library() -> Any:
    """Return the package `jvrc`, with JAX imported and set up for a process of its own."""
    memory.keep_freed_memory()
    if "jax" not in sys.modules:
        _import_jax()
    compile_cache.enable()
    import jvrc
    from jvrc.runtime import programs  # imports JAX

    programs.on_compile(_say_that_it_compiles)
    return jvrc


def _import_jax() -> None:
    """Import JAX without garbage collection of its many objects, which takes 0.15 s."""
    gc.disable()
    try:
        import jax  # noqa: F401

        devices.check()
    finally:
        gc.freeze()
        gc.enable()


def _say_that_it_compiles() -> None:
    note("jvrc: compiling for this machine, once for each range of image sizes")


def result_text(size: int, height: int, width: int, seconds: float) -> str:
    """Return bytes, bits per pixel, seconds and megapixels per second as text."""
    pixels = height * width
    speed = pixels / 1e6 / max(seconds, 1e-9)
    return f"{size} bytes, {8 * size / pixels:.3f} bpp, {seconds:.2f} s, {speed:.2f} MP/s"
