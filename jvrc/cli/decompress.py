"""`jvrc decompress`."""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jvrc.cli.common import MODEL_HELP, STANDARD, add_command, library, naming, result_text
from jvrc.cli.compress import add_output_options
from jvrc.cli.devices import Models, places
from jvrc.cli.folders import Budget, Done, run_all
from jvrc.cli.large import ANY_SIZE, check_large, decompress_large, is_large, refuse_large
from jvrc.cli.messages import note
from jvrc.cli.outputs import (
    Job,
    Naming,
    all_jobs,
    check_output,
    identities,
    one_job,
    read_source,
    report,
    write_output,
)
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

Names: photo.jvrc becomes photo.jvrc.png, which can't be the original. In folders, outputs newer
than their inputs are skipped. Nothing is overwritten without --force, and the input never."""


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
        "jvrc decompress archive -o restored --format jpeg   # a folder, into the same tree",
        "cat photo.jvrc | jvrc decompress - --format ppm | display",
    )
    parser.description += _ABOUT
    parser.add_argument("inputs", metavar="IN", nargs="+", type=Path, help="files or folders")
    add_output_options(parser)
    parser.add_argument(
        "--format",
        choices=_FORMATS,
        help="where no suffix of OUT says it; default: png",
    )
    parser.add_argument(
        "--crop",
        metavar="X,Y,W,H",
        type=_parse_crop,
        help="decompress these pixels only: left, top, width, height; default: the whole image",
    )
    parser.add_argument("--model", help=f"{MODEL_HELP}; default: the shipped model that made IN")


def _parse_crop(text: str) -> tuple[int, ...]:
    numbers = text.split(",")
    if len(numbers) != 4 or not all(number.strip().isdecimal() for number in numbers):
        raise argparse.ArgumentTypeError(f"must be X,Y,WIDTH,HEIGHT, got {text}")
    return tuple(int(number) for number in numbers)


def _run_decompress(args: argparse.Namespace) -> None:
    written = (*_FORMATS.values(), ".jpeg", ".tiff")
    names = Naming(_FORMATS[args.format or "png"], found=(".jvrc",), written=written)
    job = one_job(args.inputs, args.output, names)
    if job is not None:
        _decompress_one(args, job)
        return
    jobs = all_jobs(args.inputs, args.output, names)
    if args.crop:
        jobs = [job._replace(whole=False) for job in jobs]  # older ones may be of other crops

    def threads() -> list:
        library()
        return places(args.jobs)

    run_all(jobs, _work(args), threads, force=args.force, verb="decompress")


def _decompress_one(args: argparse.Namespace, job: Job) -> None:
    """Decompress one file and print a line of result."""
    form = _format_of(args, job.output)
    data = read_source(job.source)
    stream = _unpack(job.source, data)
    check_output(job.output, identities(args.inputs), force=args.force)
    large = is_large(stream, args.crop)
    if large:
        check_large(job.output, stream)
    name = args.model or _shipped_model(stream.model_id)
    jvrc = library()
    model = jvrc.load(name)
    begin = time.perf_counter()
    with naming(job.source):
        if large:
            decompress_large(model, data, stream, job.output)
            height, width = stream.height, stream.width
        else:
            picture = jvrc.decompress_picture(model, data, crop=args.crop, max_pixels=ANY_SIZE)
            height, width = picture.pixels.shape[:2]
    seconds = time.perf_counter() - begin
    if not large:
        _write(job.output, form, picture)
    if args.crop:
        line = f"{height}x{width} of {stream.height}x{stream.width}, {seconds:.2f} s"
    else:
        line = f"{height}x{width} from {result_text(len(data), height, width, seconds)}"
    report(job.output, line)


def _work(args: argparse.Namespace) -> Callable[[Job], Done]:
    """Return what a thread does for one file of several."""
    models, budget = Models(), Budget()

    def work(job: Job) -> Done:
        import jvrc

        data = read_source(job.source)
        stream = _unpack(job.source, data)
        refuse_large(stream, job.source, args.crop)
        model = models(args.model or _shipped_model(stream.model_id))
        with budget.of(stream.height * stream.width), naming(job.source):
            picture = jvrc.decompress_picture(model, data, crop=args.crop, max_pixels=ANY_SIZE)
        _write(job.output, job.output.suffix, picture)
        return Done(picture.pixels.shape[0] * picture.pixels.shape[1], len(data))

    return work


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


def _unpack(source: Path, data: bytes) -> Any:
    from jvrc.coding.packing import unpack

    with naming(source):
        return unpack(data, max_pixels=ANY_SIZE)


def _write(output: Path, form: str, picture: Any) -> None:
    """Write a picture in the format of a suffix; print what that format can't hold."""
    from jvrc.io.writing import encode_picture

    data, losses = encode_picture(output.with_suffix(form), picture)
    for line in losses:
        note(f"jvrc: warning: {output}: {line}")
    write_output(output, data)


def _shipped_model(model_id: str) -> str:
    name = zoo.name_of(model_id)
    if name is None:
        raise ValueError(f"no shipped model has the id {model_id}: name its file with --model")
    return name
