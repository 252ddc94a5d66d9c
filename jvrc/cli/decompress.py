"""`jvrc decompress`."""

import argparse
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from jvrc.cli import pictures
from jvrc.cli.common import (
    MODEL_HELP,
    STANDARD,
    add_command,
    library,
    naming,
    parse_path,
    result_text,
)
from jvrc.cli.compress import add_output_options
from jvrc.cli.folders import Budget, Done, run_all
from jvrc.cli.outputs import (
    Job,
    Naming,
    all_jobs,
    check_output,
    expand,
    identities,
    one_job,
    read_input,
    report,
)
from jvrc.cli.places import Models, places
from jvrc.frozen import zoo

# Names for --format, and the suffixes that they stand for.
_FORMATS = {
    "png": ".png",
    "jpeg": ".jpg",
    "webp": ".webp",
    "tiff": ".tif",
    "avif": ".avif",
    "ppm": ".ppm",
    "bmp": ".bmp",
}
_ABOUT = """

IN is a file that compress wrote, a folder (all .jvrc files in it, at any depth), or - for standard
input. JPEG and AVIF are written at high quality, 4:4:4; the other formats keep every sample. What a
format can't hold, as alpha in JPEG, is a warning.

Names: photo.jvrc becomes photo.jvrc.png, which can't be the original. In folders, an output gets
the modification time of its input, by which a later run knows that it is done. Nothing is
overwritten without --force, and the input never."""


class _Read(NamedTuple):
    """A file: its bytes, and their contents, of which the tiles have not been read yet."""

    data: bytes
    coded: Any


class _Restored(NamedTuple):
    """What was written: pixels, and the seconds that decoding took."""

    height: int
    width: int
    seconds: float


def add_decompress(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "decompress",
        _run_decompress,
        "decompress to images",
        "jvrc decompress photo.jvrc                      # writes photo.jvrc.png",
        "jvrc decompress photo.jvrc -o restored.webp",
        "jvrc decompress photo.jvrc -o crop.png --crop 512,0,256,256",
        "jvrc decompress photo.jvrc --thumbnail          # writes photo.jvrc.thumbnail.png",
        "jvrc decompress archive -o restored --format jpeg   # a folder, into the same tree",
        "cat photo.jvrc | jvrc decompress - --format ppm | display",
    )
    parser.description += _ABOUT
    parser.add_argument("inputs", metavar="IN", nargs="+", type=parse_path, help="files or folders")
    add_output_options(parser)
    parser.add_argument(
        "--format",
        choices=_FORMATS,
        help="format of the output if OUT has no suffix; default: png",
    )
    part = parser.add_mutually_exclusive_group()
    part.add_argument(
        "--crop",
        metavar="X,Y,W,H",
        type=_parse_crop,
        help="decompress these pixels only: left, top, width, height; default: the whole image",
    )
    part.add_argument(
        "--thumbnail",
        action="store_true",
        help="write the thumbnail that files of a megapixel and more hold, at once and without "
        "a model; default name: IN.thumbnail.png",
    )
    parser.add_argument("--model", help=f"{MODEL_HELP}; default: the shipped model that made IN")


def _parse_crop(text: str) -> tuple[int, ...]:
    numbers = text.split(",")
    if len(numbers) != 4 or not all(number.strip().isdecimal() for number in numbers):
        raise argparse.ArgumentTypeError(f"must be X,Y,WIDTH,HEIGHT, got {text}")
    return tuple(int(number) for number in numbers)


def _run_decompress(args: argparse.Namespace) -> None:
    written = (*_FORMATS.values(), ".jpeg", ".tiff")
    suffix = (".thumbnail" if args.thumbnail else "") + _FORMATS[args.format or "png"]
    names = Naming(suffix, found=(".jvrc",), written=written)
    args.inputs = expand(args.inputs)
    job = one_job(args.inputs, args.output, names)
    if job is not None:
        _decompress_one(args, job)
        return
    jobs = all_jobs(args.inputs, args.output, names)
    if args.crop:
        jobs = [job._replace(whole=False) for job in jobs]  # a date does not tell which crop it is

    def threads() -> list:
        if args.thumbnail:
            return [nullcontext]
        library()
        return places(args.jobs)

    run_all(jobs, _work(args), threads, force=args.force, verb="decompress")


def _decompress_one(args: argparse.Namespace, job: Job) -> None:
    """Decompress one file and print a line of result."""
    data = read_input(job.source)
    coded = _header(job.source, data)
    large = _whole(args) and pictures.stays_on_disk(job, coded)
    suffix = job.output.suffix if large else _format_of(args, job.output)
    check_output(job.output, identities(args.inputs), force=args.force)
    if not args.thumbnail:
        library()
    found = _restore(args, job, suffix, _Read(data, coded), Models())
    size = f"{found.height}x{found.width}"
    if args.crop or args.thumbnail:
        line = f"{size} of {coded.height}x{coded.width}, {found.seconds:.2f} s"
    else:
        line = f"{size} from {result_text(len(data), *found)}"
    report(job.output, line)


def _work(args: argparse.Namespace) -> Callable[[Job], Done]:
    """Return what a thread does for one file of several."""
    models, budget = Models(), Budget()

    def work(job: Job) -> Done:
        data = read_input(job.source)
        coded = _header(job.source, data)
        with budget.of(coded.height * coded.width):
            found = _restore(args, job, job.output.suffix, _Read(data, coded), models)
        size = None if args.crop or args.thumbnail else len(data)
        return Done(found.height * found.width, size)

    return work


def _header(source: Path, data: bytes) -> Any:
    """Return the contents of a file, of any size, of which the tiles have not been read yet."""
    from jvrc.coding.container import UNLIMITED
    from jvrc.coding.packing import unpack_lazily

    with naming(source):
        return unpack_lazily(data, max_pixels=UNLIMITED)


def _restore(
    args: argparse.Namespace, job: Job, suffix: str, read: _Read, models: Models
) -> _Restored:
    """Write what the options ask for of a file, in the format of a suffix."""
    data, coded = read
    with naming(job.source):
        if args.thumbnail:
            begin, picture = time.perf_counter(), pictures.thumbnail_of(job.source, coded)
        else:
            import jvrc
            from jvrc.coding.container import UNLIMITED

            model = models(args.model or _shipped_model(coded.model_id))
            begin = time.perf_counter()
            if _whole(args) and pictures.stays_on_disk(job, coded):
                decode = partial(jvrc.decompress, model, data)
                pictures.write_large(job.output, coded, decode, force=args.force)
                return _Restored(coded.height, coded.width, time.perf_counter() - begin)
            limit = {"max_pixels": UNLIMITED} if args.crop else {}
            picture = jvrc.decompress_picture(model, data, crop=args.crop, **limit)
    seconds = time.perf_counter() - begin
    pictures.write(job.output, suffix, picture, force=args.force)
    return _Restored(*picture.pixels.shape[:2], seconds)


def _whole(args: argparse.Namespace) -> bool:
    return not (args.crop or args.thumbnail)


def _format_of(args: argparse.Namespace, output: Path) -> str:
    """Return the suffix that names the format of an output.

    Raises:
      ValueError: --format contradicts the output's suffix, or no image has that suffix.
    """
    from jvrc.io.files import is_stream
    from jvrc.io.images import check_image_suffix

    wanted = _FORMATS[args.format] if args.format else None
    if output == STANDARD or is_stream(output):
        return wanted or ".png"
    if not output.suffix and wanted:
        return wanted
    check_image_suffix(output)
    if wanted and not _same_format(wanted, output.suffix.lower()):
        raise ValueError(f"{output}: its suffix is not that of --format {args.format}")
    return output.suffix


def _same_format(one: str, other: str) -> bool:
    pairs = {".jpeg": ".jpg", ".tiff": ".tif", ".pgm": ".ppm"}
    return pairs.get(one, one) == pairs.get(other, other)


def _shipped_model(model_id: str) -> str:
    name = zoo.name_of(model_id)
    if name is None:
        raise ValueError(
            f"{zoo.missing(model_id)}: name the weights file that compressed the image with --model"
        )
    return name
