"""`jvrc eval`."""

import argparse
import datetime
import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from jvrc import __version__
from jvrc.cli.common import DEFAULT_MODEL, MODEL_HELP, add_command, library
from jvrc.qstep import QSTEP_MAX, QSTEP_MIN, qstep_code_of
from jvrc.runtime import extras

_QSTEPS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0)
_SHOWN_BPP = 0.25  # the report's pictures are coded at the step whose mean rate is nearest
_FILES = ("results.json", "results.csv", "curves.png", "report.html")


def add_eval(subparsers: Any) -> None:
    """Adds the command."""
    parser = add_command(
        subparsers,
        "eval",
        _run_eval,
        "measure models and other codecs on a folder of pictures (needs the extra `eval`)",
        "jvrc eval photos/",
        "jvrc eval photos/ --model mbt2018-mean --model runs/mine/model.safetensors --qsteps 2,4,8",
        "jvrc eval photos/ --against jpeg,webp,avif,jpegxl --between 0.15,1.0 -o comparison",
        "jvrc eval photos/ --effort 0,3 --qsteps 2,4,8,16",
        "jvrc eval kodak/ --curves published.json --json results.json",
    )
    parser.description += (
        ". Every point is a real file, written, read back and decoded. In the output folder: "
        "results.json (points, means, BD-rates), results.csv (points), curves.png and report.html "
        "with a slider between original, model and other codecs at equal bytes. What is measured "
        "already is not measured again, so an interrupted run goes on where it stopped"
    )
    parser.add_argument("input", metavar="DIR", type=Path, help="pictures, any depth")
    parser.add_argument(
        "--model",
        action="append",
        metavar="NAME|FILE",
        help=f"{MODEL_HELP}; may be given several times; default: {DEFAULT_MODEL}",
    )
    parser.add_argument(
        "--qsteps", type=_qsteps, default=_QSTEPS, help="steps, commas between; default: 1 … 24"
    )
    parser.add_argument(
        "--effort",
        type=_efforts,
        default=(0,),
        metavar="E",
        help="of compress, 0 … 3; several, commas between, are compared; default: 0",
    )
    parser.add_argument(
        "--against",
        type=lambda text: text.split(","),
        default=[],
        metavar="CODECS",
        help="some of jpeg, webp, avif, jpegxl, commas between: coded by Pillow in the same run",
    )
    parser.add_argument(
        "--curves",
        type=Path,
        metavar="FILE",
        help="JSON of published curves (of the same pictures) to draw and compare",
    )
    parser.add_argument(
        "--between",
        type=_two_rates,
        metavar="LOW,HIGH",
        help="bits per pixel: the part of a tested curve that counts in its BD-rate; default: all",
    )
    parser.add_argument(
        "--pictures", type=int, default=24, metavar="N", help="in the report; default: %(default)s"
    )
    parser.add_argument(
        "--show", type=_qstep, metavar="QSTEP", help="of the report's pictures; default: at ¼ bpp"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the JSON here as well")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FOLDER",
        default=Path("jvrc-eval"),
        help="results of an earlier run in it are replaced; default: %(default)s",
    )


def _run_eval(args: argparse.Namespace) -> None:
    from jvrc.evaluation import measure, peers, summary
    from jvrc.io.images import list_images

    paths = list_images(args.input)
    against = [peers.peer(name) for name in dict.fromkeys(args.against)]
    read = summary.read_curves(args.curves) if args.curves else {}
    published = {f"{name} (published)": curve for name, curve in read.items()}
    if args.json and not args.json.parent.is_dir():
        raise FileNotFoundError(f"{args.json.parent}: no such folder")
    extras.require("eval")
    models = _model_coders(args.model or [DEFAULT_MODEL], args.qsteps, args.effort)
    coders = [*models, *(_peer_coder(peer) for peer in against)]
    _check_names([c.name for c in coders] + list(published))
    args.output.mkdir(parents=True, exist_ok=True)
    points = measure.measure(paths, coders, args.output, args.input)
    _write(args, points, models, against, published)


def _write(
    args: argparse.Namespace, points: list, models: list, against: list, published: dict
) -> None:
    from jvrc.evaluation import plots, report, summary
    from jvrc.io.files import write_bytes

    rows = summary.means(points)
    curves = {metric: summary.curves(rows, metric) for metric in summary.METRICS}
    curves["psnr"] |= published
    pairs = [p for m in curves for p in summary.bd_rates(curves[m], m, args.between)]
    facts = _facts(args, points, models)
    found = {
        "facts": facts,
        "points": [asdict(p) for p in points],
        "means": [asdict(r) for r in rows],
        "bd_rates": [asdict(p) for p in pairs],
    }
    title = f"{args.input.resolve().name}, {facts['pictures']} pictures"
    drawn = {m: c for m, c in curves.items() if m != "psnr_luma"}
    ours = [m.name for m in models]
    plot = plots.rd_plot(drawn, ours, list(published), title) if any(drawn.values()) else b""
    pictures = _pictures(args, points, rows, models, against)
    text = json.dumps(found, indent=1).encode()
    contents = (
        text,
        summary.points_csv(points).encode(),
        plot,
        report.page(title, facts, rows, pairs, plot, pictures).encode(),
    )
    for name, data in zip(_FILES, contents, strict=True):
        if data:
            write_bytes(args.output / name, data)
    if args.json:
        write_bytes(args.json, text)
    _print(rows, pairs, ours)
    print(f"{args.output}: {', '.join(n for n, d in zip(_FILES, contents, strict=True) if d)}")


def _pictures(
    args: argparse.Namespace, points: list, rows: list, models: list, against: list
) -> list:
    from tqdm import tqdm

    from jvrc.evaluation import report
    from jvrc.io.images import read_image

    first = [r for r in rows if r.coder == models[0].name]
    setting = args.show or min(first, key=lambda r: abs(r.bpp - _SHOWN_BPP)).setting
    names = list(dict.fromkeys(p.image for p in points))[: max(0, args.pictures)]
    return [
        report.picture(name, read_image(args.input / name), models, setting, against)
        for name in tqdm(names, desc="report", unit="picture", leave=False, disable=None)
    ]


def _model_coders(names: list[str], qsteps: tuple[float, ...], efforts: tuple[int, ...]) -> list:
    from jvrc.evaluation.measure import Coder

    jvrc, coders = library(), []
    for name in names:
        model = jvrc.load(name)
        label = name if name in jvrc.models() else Path(name).stem
        for effort in efforts:
            compress = partial(jvrc.compress, model, effort=effort)
            decompress = partial(jvrc.decompress, model)
            label_of = f"{label}, effort {effort}" if effort else label
            coders.append(Coder(label_of, model.model_id, "qstep", qsteps, compress, decompress))
    return coders


def _peer_coder(peer: Any) -> Any:
    from jvrc.evaluation import peers
    from jvrc.evaluation.measure import Coder

    def encode(img: Any, quality: float) -> bytes:
        return peer.encode(img, int(quality))

    return Coder(peer.title, peer.version, "quality", peer.qualities, encode, peers.decode)


def _check_names(names: list[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ValueError(f"names of models, codecs and curves must differ; {twice!r} comes twice")


def _facts(args: argparse.Namespace, points: list, models: list) -> dict[str, str]:
    from jvrc.evaluation.machine import describe

    versions = dict.fromkeys((p.coder, p.version) for p in points)
    return {
        "pictures": str(len({p.digest for p in points})),
        "coders": ", ".join(f"{name} ({version})" for name, version in versions),
        "BD-rates": "between {:g} and {:g} bpp".format(*args.between)
        if args.between
        else "over all rates",
        "jvrc": __version__,
        "machine": describe(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _print(rows: list, pairs: list, ours: list[str]) -> None:
    wide = max(len(r.coder) for r in rows)
    print(f"{'coder':{wide}}  setting   bytes    bpp   PSNR  luma  MS-SSIM  enc s  dec s")
    for r in rows:
        quality = (_number(r.psnr, 6, 2), _number(r.psnr_luma, 5, 2), _number(r.ms_ssim, 7, 4))
        print(
            f"{r.coder:{wide}}  {r.setting:7g} {r.bytes:7.0f}  {r.bpp:5.3f} {'  '.join(quality)}"
            f"  {r.encode_s:5.2f}  {r.decode_s:5.2f}"
        )
    chosen = [p for p in pairs if p.metric == "psnr" and p.test in ours]
    if chosen:
        print("\nBD-rate, RGB PSNR (PCHIP, over the range of dB shared):")
    for p in chosen:
        where = f"{p.low:.2f} … {p.high:.2f} dB"
        print(f"{p.percent:+7.1f} %  {p.test} against {p.anchor}, {where}")


def _number(value: float | None, width: int, digits: int) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:{width}.{digits}f}"


def _qstep(text: str) -> float:
    return _qsteps(text)[0]


def _qsteps(text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
        for value in values:
            qstep_code_of(value)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be numbers in {QSTEP_MIN:g} ... {QSTEP_MAX:g} with commas between, got {text}"
        ) from None
    return tuple(dict.fromkeys(values))


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
