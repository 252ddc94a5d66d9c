"""`jvrc compress`."""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jvrc.cli import pictures
from jvrc.cli.common import (
    DEFAULT_MODEL,
    MODEL_HELP,
    add_command,
    library,
    parse_name,
    parse_path,
    result_text,
)
from jvrc.cli.folders import Budget, Done, run_all
from jvrc.cli.messages import UsageError
from jvrc.cli.outputs import (
    Job,
    Naming,
    all_jobs,
    check_output,
    expand,
    identities,
    one_job,
    report,
    write_output,
)
from jvrc.cli.places import Models, places
from jvrc.cli.rate_options import add_rate_options, rate_of
from jvrc.io.files import is_stream

_IMAGES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif", ".heic", ".heif", ".hif", ".jxl"),
    *(".tif", ".tiff", ".bmp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".tga"),
)
_NAMING = Naming(".jvrc", found=_IMAGES, written=(".jvrc",), replaced=_IMAGES, made=".jvrc.")
_ABOUT = """

IN is an image that Pillow can read, a folder (all images in it, at any depth), or - for standard
input. With one of the plugins pillow-heif and pillow-jxl-plugin installed, HEIC or JPEG XL too.
Colour profile, alpha, EXIF and XMP are kept; what a file can't keep is a warning.

Names: photo.png becomes photo.jvrc. In folders, with -o DIR or IN a folder, whole names are kept:
a.png becomes a.png.jvrc, beside a.jpg.jvrc. There an output gets the modification time of its
input, by which a later run knows that it is done. Nothing is overwritten without --force, and the
input never."""


def add_compress(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "compress",
        _run_compress,
        "compress images",
        "jvrc compress photo.png                         # writes photo.jvrc",
        "jvrc compress photo.png -o small.jvrc --qstep 8 --verify",
        "jvrc compress photo.png --bytes 60k             # at most 60,000 bytes",
        "jvrc compress photos -o archive                 # a folder, into the same tree",
        "jvrc compress *.jpg -o archive --psnr 36 --strip",
        "jvrc compress photo.png --psnr 36 --effort 1    # smaller for that quality, and slower",
        "cat photo.png | jvrc compress - > photo.jvrc",
    )
    parser.description += _ABOUT
    parser.add_argument(
        "inputs", metavar="IN", nargs="+", type=parse_path, help="images or folders"
    )
    add_output_options(parser)
    add_rate_options(parser)
    parser.add_argument(
        "--model", default=DEFAULT_MODEL, help=f"{MODEL_HELP}; default: %(default)s"
    )
    parser.add_argument(
        "--effort",
        type=int,
        choices=range(4),
        default=0,
        help="a search for better symbols: higher takes longer and gives fewer bytes at the same "
        "quality (at one qstep mostly better quality); default: %(default)s",
    )
    parser.add_argument(
        "--masking",
        action="store_true",
        help="let that search weigh errors by what the eye sees of them, less in texture; needs "
        "--effort 1 or more",
    )
    parser.add_argument(
        "--strip", action="store_true", help="leave EXIF (place and time too) and XMP out"
    )
    parser.add_argument(
        "--srgb", action="store_true", help="convert to sRGB instead of keeping the colour profile"
    )
    parser.add_argument(
        "--no-patches",
        dest="patches",
        action="store_false",
        help="code text, screens and noise with the model too, however it restores them",
    )
    parser.add_argument("--verify", action="store_true", help="decompress and print the PSNR too")


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add -o, --force and --jobs."""
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT|DIR",
        type=parse_name,
        help="a file, - for standard output, or a folder, which several inputs need; "
        "default: beside IN",
    )
    parser.add_argument("--force", action="store_true", help="overwrite existing files")
    parser.add_argument(
        "-j",
        "--jobs",
        metavar="N",
        type=parse_jobs,
        help="images at a time, of several; default: half the number of CPU cores, or two for each "
        "accelerator",
    )


def parse_jobs(text: str) -> int:
    """Return a number of threads; ArgumentTypeError unless it is 1 ... 256."""
    if not text.isdecimal() or not 1 <= int(text) <= 256:
        raise argparse.ArgumentTypeError(f"must be in 1 ... 256, got {text}")
    return int(text)


def _run_compress(args: argparse.Namespace) -> None:
    if args.masking and not args.effort:
        raise UsageError("--masking: weighs what --effort minimises; add --effort 1")
    args.inputs = expand(args.inputs)
    job = one_job(args.inputs, args.output, _NAMING)
    if job is not None:
        _compress_one(args, job)
        return
    jobs = all_jobs(args.inputs, args.output, _NAMING)

    def threads() -> list:
        library()
        return places(args.jobs)

    run_all(jobs, _work(args), threads, force=args.force, verb="compress")


def _compress_one(args: argparse.Namespace, job: Job) -> None:
    """Compress one image and print a line of result."""
    check_output(job.output, identities(args.inputs), force=args.force)
    _check_name(job.output)
    picture = pictures.read(job.source, srgb=args.srgb)
    jvrc = library()
    model = Models()(args.model)
    begin = time.perf_counter()
    data = jvrc.compress(model, picture, **_options(args), progress=True)
    seconds = time.perf_counter() - begin
    line = result_text(len(data), *picture.pixels.shape[:2], seconds)
    if "qstep" not in rate_of(args):
        line += f", qstep {jvrc.inspect(data).qstep:.4g}"
    if args.verify:
        line += f", {_psnr(model, picture, data):.2f} dB"
    write_output(job.output, data, force=args.force)
    report(job.output, line)


def _check_name(output: Path) -> None:
    """Raise ValueError for a name that an image would have: no program could read it as one."""
    if output.suffix.lower() in _IMAGES and not is_stream(output):
        raise ValueError(
            f"{output}: names an image of another format; choose a name such as "
            f"{output.with_suffix('.jvrc').name} with -o"
        )


def _work(args: argparse.Namespace) -> Callable[[Job], Done]:
    """Return what a thread does for one image of several."""
    models, budget = Models(), Budget()

    def work(job: Job) -> Done:
        import jvrc

        picture = pictures.read(job.source, srgb=args.srgb)
        pixels = picture.pixels.shape[0] * picture.pixels.shape[1]
        model = models(args.model)
        with budget.of(pixels):
            data = jvrc.compress(model, picture, **_options(args))
            psnr = _psnr(model, picture, data) if args.verify else None
        write_output(job.output, data, force=args.force)
        return Done(pixels, len(data), psnr)

    return work


def _options(args: argparse.Namespace) -> dict[str, Any]:
    return rate_of(args) | {
        "effort": args.effort,
        "masking": args.masking,
        "metadata": not args.strip,
        "patches": args.patches,
    }


def _psnr(model: Any, picture: Any, data: bytes) -> float:
    from jvrc.codec.image.fidelity import psnr_of
    from jvrc.coding.container import UNLIMITED
    from jvrc.coding.packing import unpack
    from jvrc.runtime.guards import without_guards

    coded = unpack(data, max_pixels=UNLIMITED)
    return without_guards(psnr_of)(model, coded, picture.pixels)  # in bounded memory
