"""`jvrc eval`."""

import argparse
import datetime
from pathlib import Path
from typing import Any

from jvrc import __version__
from jvrc.cli.common import DEFAULT_MODEL, MODEL_HELP, add_command, library, parse_path, parse_qstep
from jvrc.cli.messages import UsageError, note
from jvrc.runtime import extras

_QSTEPS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0)
_SHOWN_BPP = 0.25  # the report's images are coded at the qstep whose mean rate is nearest
_ABOUT = """

Every measured point is a real file, written, read back and decoded. The output folder gets
results.json (points, means, BD-rates), results.csv (points), curves.png, curves.json (for --curves
of a later run), and report.html with a slider between original, model and other codecs at equal
bytes. An interrupted run goes on where it stopped: points that the output folder has already are
not measured again."""


def add_eval(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "eval",
        _run_eval,
        "measure models and other codecs on a folder of images (needs the extra `eval`)",
        "jvrc eval photos/",
        "jvrc eval photos/ --model mbt2018-mean --model runs/mine/model.safetensors --qsteps 2,4,8",
        "jvrc eval photos/ --against jpeg,webp,avif,jpegxl --between 0.1,2.0 -o comparison",
        "jvrc eval photos/ --effort 0,3 --qsteps 2,4,8,16",
        "jvrc eval kodak/ --curves published.json --json results.json",
    )
    parser.description += _ABOUT
    parser.add_argument("input", metavar="DIR", type=parse_path, help="image files, at any depth")
    _add_what_to_measure(parser)
    _add_what_to_write(parser)


def _add_what_to_measure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        action="append",
        metavar="NAME|FILE",
        help=f"{MODEL_HELP}; may be given several times; default: {DEFAULT_MODEL}",
    )
    parser.add_argument(
        "--qsteps",
        type=_qsteps,
        default=_QSTEPS,
        metavar="Q,Q,…",
        help=f"quantisation steps; default: {', '.join(f'{q:g}' for q in _QSTEPS)}",
    )
    parser.add_argument(
        "--effort",
        type=_efforts,
        default=(0,),
        metavar="E,E,…",
        help="efforts of compress to measure, 0 … 3; default: 0",
    )
    parser.add_argument(
        "--masking",
        action="store_true",
        help="measure each effort above 0 with compress --masking as well",
    )
    parser.add_argument(
        "--against",
        type=lambda text: text.split(","),
        default=[],
        metavar="CODECS",
        help="other codecs: some of jpeg, jpeg444, mozjpeg, webp, jpegxl, avif (4:4:4, speed 6, "
        "tuned for PSNR), avif-iq (tuned for the eye), avif-slow (speed 0: some seconds an image)",
    )
    parser.add_argument(
        "--curves",
        type=parse_path,
        metavar="FILE",
        help="JSON of published curves, of the same images, to draw and compare",
    )
    parser.add_argument(
        "--between",
        type=_two_rates,
        metavar="LOW,HIGH",
        help="bits per pixel: the part of a tested curve that counts in its BD-rate; default: all. "
        "BD-rates between 0.1 and 0.3 and between 1 and 2 are given as well",
    )


def _add_what_to_write(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--images",
        type=int,
        default=24,
        metavar="N",
        help="images shown in the report; default: %(default)s",
    )
    parser.add_argument(
        "--show",
        type=parse_qstep,
        metavar="QSTEP",
        help=f"qstep of the report's images; default: that of about {_SHOWN_BPP:g} bpp",
    )
    parser.add_argument(
        "--json", type=parse_path, metavar="FILE", help="write results.json here as well"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=parse_path,
        metavar="FOLDER",
        default=Path("jvrc-eval"),
        help="points of an earlier run in it are used, its results replaced; default: %(default)s",
    )


def _run_eval(args: argparse.Namespace) -> None:
    extras.require("eval")
    if args.masking and not any(args.effort):
        raise UsageError("--masking: weighs what --effort minimises; add --effort 0,1")
    from jvrc.evaluation import peers, summary
    from jvrc.io.files import alone_in
    from jvrc.io.images import list_images

    paths = list_images(args.input)
    against = [peers.peer(name) for name in dict.fromkeys(args.against)]
    read = summary.read_curves(args.curves) if args.curves else {}
    published = {
        metric: {f"{name} (published)": curve for name, curve in found.items()}
        for metric, found in read.items()
    }
    if args.json and not args.json.parent.is_dir():
        raise FileNotFoundError(f"{args.json.parent}: no such folder")
    models = _model_coders(args)
    from jvrc.evaluation import coders, measure

    measured = [*models, *map(coders.of_peer, against)]
    _check_names([c.name for c in measured] + list(published.get("psnr", {})))
    args.output.mkdir(parents=True, exist_ok=True)
    with alone_in(args.output):
        points = measure.measure(paths, measured, args.output, args.input)
        _write(args, points, models, against, published)


def _model_coders(args: argparse.Namespace) -> list:
    jvrc = library()
    from jvrc.evaluation import coders

    found = []
    for name in args.model or [DEFAULT_MODEL]:
        model = jvrc.load(name)
        label = name if name in jvrc.models() else Path(name).stem
        for effort in args.effort:
            for masking in (False, True) if args.masking and effort else (False,):
                options = {"effort": effort, "masking": masking}
                found.append(coders.of_model(model, label, args.qsteps, **options))
    return found


def _write(
    args: argparse.Namespace, points: list, models: list, against: list, published: dict
) -> None:
    """Write the files of the results and print their tables."""
    from jvrc.evaluation import results, summary, text
    from jvrc.io.files import write_bytes

    ranges = (args.between, *summary.ENDS)
    facts, ours = _facts(points, ranges), [m.name for m in models]
    title = f"{args.input.resolve().name}, {facts['images']} images"
    found = results.results_of(title, facts, points, ranges, published, ours)
    files = found.files(_comparisons(args, found, models, against))
    for name, data in files.items():
        write_bytes(args.output / name, data)
    if args.json:
        write_bytes(args.json, found.as_json())
    for line in text.gaps(found.points):
        note(f"jvrc: {line}")
    print(text.means_table(found.means))
    if chosen := [p for p in found.bd_rates if p.test in ours]:
        print(f"\n{text.bd_rate_tables(chosen)}\n")
    print(f"{args.output}: {', '.join(files)}")


def _comparisons(args: argparse.Namespace, found: Any, models: list, against: list) -> list:
    """Return the images of the report, coded with each model and codec; found: `Results`."""
    from tqdm import tqdm

    from jvrc.evaluation import report
    from jvrc.io.images import read_image

    first = [r for r in found.means if r.coder == models[0].name]
    setting = args.show or min(first, key=lambda r: abs(r.bpp - _SHOWN_BPP)).setting
    sides = {p.image: max(p.height, p.width) for p in found.points}
    for name in [name for name, side in sides.items() if side > report.MAX_SIDE]:
        rule = f"a side is longer than {report.MAX_SIDE} pixels"
        note(f"jvrc: {name}: left out of the report: {rule}")
        del sides[name]
    names = list(sides)[: max(0, args.images)]
    return [
        report.compare(name, read_image(args.input / name), models, setting, against)
        for name in tqdm(names, desc="report", unit="image", leave=False, disable=None)
    ]


def _facts(points: list, ranges: tuple) -> dict[str, str]:
    from jvrc.evaluation import text
    from jvrc.evaluation.machine import describe

    versions = dict.fromkeys((p.coder, p.version) for p in points)
    return {
        "images": str(len({p.digest for p in points})),
        "coders": ", ".join(f"{name} ({version})" for name, version in versions),
        "BD-rates": "; ".join(map(text.in_words, ranges)),
        "jvrc": __version__,
        "machine": describe(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _check_names(names: list[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ValueError(
            f"names of models, codecs and curves must differ; {twice!r} comes twice: pass the "
            "folder of a run, or a copy of the weights under another name"
        )


def _qsteps(text: str) -> tuple[float, ...]:
    return tuple(dict.fromkeys(parse_qstep(part) for part in text.split(",")))


def _efforts(text: str) -> tuple[int, ...]:
    if not set(text.split(",")) <= set("0123"):
        raise argparse.ArgumentTypeError(f"must be some of 0, 1, 2, 3, got {text}")
    return tuple(dict.fromkeys(int(part) for part in text.split(",")))


def _two_rates(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = 0.0
    if not 0 < low < high:
        raise argparse.ArgumentTypeError(f"must be two rates, the lower one first, got {text}")
    return low, high
