"""`jvrc info` and `jvrc models`: what a file and the package hold, for people or as JSON."""

import argparse
import json
from pathlib import Path
from typing import Any

from jvrc import shipped, step_grid
from jvrc.cli.common import add_command, read_stream


def add_info(subparsers: Any) -> None:
    """Adds the command."""
    parser = add_command(
        subparsers,
        "info",
        _run_info,
        "describe a compressed picture",
        "jvrc info photo.jvrc",
        "jvrc info photo.jvrc --json",
    )
    parser.add_argument("input", metavar="IN.jvrc", type=Path, help="what compress wrote")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")


def add_models(subparsers: Any) -> None:
    """Adds the command."""
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
    info = _info(args.input)
    if args.json:
        print(json.dumps(info))
        return
    sections = ", ".join(f"{name} {size}" for name, size in info["sections"].items())
    print(f"file      {info['file']}")
    print(f"size      {info['bytes']} bytes, {info['bpp']:.3f} bpp")
    print(f"picture   {info['height']}x{info['width']} (height x width)")
    print(f"qstep     {info['qstep']:.4g} (code {info['step_code']})")
    print(f"model     {info['model_id']} ({info['model'] or 'none of the shipped ones'})")
    print(f"lanes     z {info['lanes']['z']}, y {info['lanes']['y']}")
    print(f"sections  {sections} (bytes)")


def _info(path: Path) -> dict[str, Any]:
    data, container = read_stream(path, max_pixels=2**64)  # nothing is decoded: any size will do
    return {
        "file": str(path),
        "bytes": len(data),
        "bpp": 8 * len(data) / (container.height * container.width),
        "height": container.height,
        "width": container.width,
        "qstep": step_grid.qstep_of(container.step_code),
        "step_code": container.step_code,
        "model_id": container.model_id,
        "model": shipped.name_of(container.model_id),
        "lanes": {"z": container.z.lanes, "y": container.y.lanes},
        "sections": _section_bytes(len(data), container.z, container.y),
    }


def _section_bytes(total: int, z: Any, y: Any) -> dict[str, int]:
    payload = {
        "z words": len(z.words),
        "z escapes": len(z.escapes),
        "y words": len(y.words),
        "y escapes": len(y.escapes),
    }
    checksum = 4
    header = total - sum(payload.values()) - checksum
    return {"header": header, **payload, "checksum": checksum}


def _run_models(args: argparse.Namespace) -> None:
    rows = [_model_row(name, path) for name, path in shipped.models().items()]
    if args.json:
        print(json.dumps(rows))
        return
    for row in rows:
        print(
            f"{row['name']}: {row['architecture']}, N = {row['N']}, M = {row['M']}, "
            f"id {row['model_id']}, {row['bytes'] / 1e6:.1f} MB, {row['license']}"
        )


def _model_row(name: str, path: Path) -> dict[str, Any]:
    header = shipped.describe(name)
    return {
        "name": name,
        "architecture": header["config"]["architecture"],
        "N": header["config"]["N"],
        "M": header["config"]["M"],
        "model_id": header["model_id"],
        "bytes": path.stat().st_size,
        "license": header.get("license", "licence not stated"),
    }
