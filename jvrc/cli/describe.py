"""`jvrc info`, `jvrc models` and `jvrc annotate`: streams, weights files and their headers."""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jvrc.cli.common import add_command, library, name_of, naming, parse_notes, parse_path
from jvrc.cli.messages import UsageError
from jvrc.cli.outputs import read_input
from jvrc.frozen import zoo
from jvrc.frozen.header import read_header
from jvrc.qstep import QSTEP_MAX, QSTEP_MIN


def add_info(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "info",
        _run_info,
        "describe a compressed image or a model",
        "jvrc info photo.jvrc",
        "jvrc info mbt2018-mean",
        "jvrc info runs/small/model.safetensors --json",
    )
    parser.add_argument(
        "input",
        metavar="FILE|MODEL",
        type=parse_path,
        help="a compressed image, - for one from standard input, a weights file or a shipped model",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")


def add_annotate(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "annotate",
        _run_annotate,
        "add notes or measured results to a weights file's header; the model id stays",
        "jvrc annotate small.safetensors --note license=Apache-2.0 --note 'data=my photographs'",
        "jvrc annotate small.safetensors --measured kodak=comparison/results.json",
    )
    parser.add_argument("input", metavar="FILE", type=parse_path, help="a weights file")
    parser.add_argument(
        "--note", action="append", default=[], metavar="KEY=TEXT", help="a line for the header"
    )
    parser.add_argument(
        "--measured",
        action="append",
        default=[],
        metavar="SET=RESULTS.json",
        help="the model's means over a set of images, from results.json of `jvrc eval`",
    )


def add_models(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "models",
        _run_models,
        "list the shipped models",
        "jvrc models",
        "jvrc models --json",
    )
    parser.add_argument("--json", action="store_true", help="one JSON array instead of text")


def _run_info(args: argparse.Namespace) -> None:
    path = args.input if args.input.exists() else zoo.shipped_file(str(args.input)) or args.input
    if path.suffix == ".safetensors":
        _describe_model(path, as_json=args.json)
        return
    info = _info(args.input)
    if args.json:
        print(json.dumps(info))
        return
    print(f"file      {info['file']}")
    print(f"size      {info['bytes']} bytes, {info['bpp']:.3f} bpp")
    print(f"format    version {info['version']}, tiles: {info['tiles']}")
    print(f"image     {info['height']}x{info['width']} (height x width), {_colours(info)}")
    print(f"profile   {info['profile'] or 'none (sRGB)'}")
    print(f"metadata  {_metadata(info)}")
    print(f"qstep     {info['qstep']:.4g} (qstep_code {info['qstep_code']})")
    print(f"model     {info['model_id']} ({info['model'] or 'none of the shipped ones'})")
    print(f"patches   {100 * info['patched']:.3g} % of the image, coded without the model")
    lanes = {name: _span(numbers) for name, numbers in info["lanes"].items()}
    print(f"lanes     z {lanes['z']}, y {lanes['y']} (of the range coder)")
    scales = f"adapted to the image in {info['scale_adapted']} of {info['tiles']} tiles"
    print(f"scales    {scales}, refined in {info['refined']}")
    print(f"content   {_plain(info['content'])} (bytes)")


def _colours(info: dict[str, Any]) -> str:
    return ("grey" if info["channels"] == 1 else "RGB") + (" with alpha" if info["alpha"] else "")


def _metadata(info: dict[str, Any]) -> str:
    names = {"exif": "EXIF", "xmp": "XMP", "thumbnail": "thumbnail"}
    found = [f"{text} of {info[key]} bytes" for key, text in names.items() if info[key]]
    return ", ".join(found) or "none"


def _info(path: Path) -> dict[str, Any]:
    from jvrc.codec.info import inspect
    from jvrc.coding.container import UNLIMITED
    from jvrc.coding.packing import unpack

    data = read_input(path)
    with naming(path):
        container = unpack(data, max_pixels=UNLIMITED)  # nothing is decoded
        described = inspect(data)._asdict()
    streams = {name: [getattr(tile, name) for tile in container.tiles] for name in ("z", "y")}
    more = {name: [getattr(tile, name) for tile in container.tiles] for name in ("patch", "alpha")}
    return (
        {"file": name_of(path)}
        | described
        | {
            "qstep_code": container.qstep_code,
            "scale_adapted": sum(tile.scale_adapted for tile in container.tiles),
            "refined": sum(tile.refined for tile in container.tiles),
            "lanes": {k: sorted({s.lanes for s in found}) for k, found in streams.items()},
            "content": _content(len(data), streams, more, container.sections),
        }
    )


def _content(
    total: int, streams: dict[str, list], more: dict[str, list[bytes]], sections: Sequence[Any]
) -> dict[str, int]:
    """Return what the bytes of a file are for."""
    from jvrc.coding.metadata import SECTION_NAMES

    payload = {
        f"{name} {part}": sum(len(getattr(stream, part)) for stream in found)
        for name, found in streams.items()
        for part in ("words", "escapes")
    }
    payload |= {name: size for name, found in more.items() if (size := sum(map(len, found)))}
    for kind, data in sections:
        name = SECTION_NAMES.get(kind, f"section {kind}")
        payload[name] = payload.get(name, 0) + len(data)
    return payload | {"headers, checksums": total - sum(payload.values())}


def _span(numbers: Sequence[int]) -> str:
    return " ... ".join(str(n) for n in sorted({min(numbers), max(numbers)}))


def _describe_model(path: Path, *, as_json: bool) -> None:
    header = read_header(path)
    if as_json:
        print(json.dumps(header | {"file": str(path), "bytes": path.stat().st_size}))
        return
    try:
        lines = list(_lines_of(path, header))
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: not a weights file of jvrc: its header is damaged") from error
    print("\n".join(lines))


def _lines_of(path: Path, header: dict[str, Any]) -> Iterator[str]:
    """Yield what `jvrc info` prints of a weights file; takes entries out of its header."""
    config, measured = header.pop("config"), header.pop("measured", {})
    low, high = header.pop("qstep_range", (QSTEP_MIN, QSTEP_MAX))
    yield f"file      {path}"
    yield f"model     {config['architecture']}, N = {config['N']}, M = {config['M']}"
    yield f"id        {header.pop('model_id')}"
    yield f"size      {path.stat().st_size} bytes"
    yield f"qsteps    trained for {low:.3g} … {high:.3g}"
    for key, value in header.items():
        yield f"{key:<9} {_plain(value)}"
    for name, means in measured.items():
        yield f"{name:<9} mean of {means['images']} images"
        for qstep, bpp, psnr in zip(means["qstep"], means["bpp"], means["psnr"], strict=True):
            yield f"          qstep {qstep:<5g} {bpp:.4f} bpp  {psnr:.3f} dB"


def _plain(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    return ", ".join(f"{k} {v}" for k, v in value.items() if v not in ("", [], ()))


def _run_annotate(args: argparse.Namespace) -> None:
    notes = parse_notes(args.note)
    named = [pair.partition("=") for pair in args.measured]
    if not all(name and file for name, _, file in named):
        raise UsageError(f"--measured must be SET=RESULTS.json; got {' '.join(args.measured)}")
    if not (notes or named):
        raise UsageError("nothing to write: pass --note or --measured")
    header = read_header(args.input)
    measured = header.get("measured", {})
    for name, _, file in named:
        measured[name] = _means(Path(file), header.get("fingerprint", header["model_id"]))
    described = notes | ({"measured": measured} if named else {})
    library()
    from jvrc.frozen.file import annotate

    annotate(args.input, described)
    print(f"{args.input}: model {header['model_id']}: {', '.join(described)}")


def _means(path: Path, fingerprint: str) -> dict[str, Any]:
    """Return the means of one model, as lists over its quantisation steps."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["means"]
        rows = [row for row in rows if row["version"].split(",")[0] == fingerprint]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a results.json of `jvrc eval`") from error
    if not rows:
        raise ValueError(f"{path}: holds no means of model {fingerprint}")
    lists = {key: [row[key] for row in rows] for key in ("bpp", "psnr", "psnr_luma", "ms_ssim")}
    return {"images": rows[0]["images"], "qstep": [row["setting"] for row in rows]} | lists


def _run_models(args: argparse.Namespace) -> None:
    rows = [_model_row(name, path) for name, path in zoo.models().items()]
    if args.json:
        print(json.dumps(rows))
        return
    for row in rows:
        print(
            f"{row['name']}: {row['architecture']}, N = {row['N']}, M = {row['M']}, "
            f"id {row['model_id']}, {row['bytes'] / 1e6:.1f} MB, {row['license']}"
        )


def _model_row(name: str, path: Path) -> dict[str, Any]:
    header = zoo.describe(name)
    return {
        "name": name,
        "architecture": header["config"]["architecture"],
        "N": header["config"]["N"],
        "M": header["config"]["M"],
        "model_id": header["model_id"],
        "bytes": path.stat().st_size,
        "license": header.get("license", "licence not stated"),
    }
