"""`jvrc plot`."""

import argparse
from typing import Any

from jvrc.cli.common import add_command, add_output, parse_path
from jvrc.cli.outputs import check_output, identities

_METRICS, _PLOT = "metrics.jsonl", "metrics.png"


def add_plot(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "plot",
        _run_plot,
        "plot the metrics of a training run (needs the extra `eval`)",
        "jvrc plot runs/all-rates -o all-rates.png",
        "jvrc plot runs/all-rates --force",
    )
    parser.add_argument(
        "input", metavar="RUN", type=parse_path, help="a folder of train or posttrain"
    )
    add_output(parser, "FILE", f"its suffix is the format; default: RUN/{_PLOT}")


def _run_plot(args: argparse.Namespace) -> None:
    metrics = args.input / _METRICS
    if not args.input.is_dir():
        raise FileNotFoundError(f"{args.input}: no such run")
    if not metrics.is_file():
        raise ValueError(f"{args.input}: not a run: it holds no {_METRICS}")
    output = args.output or args.input / _PLOT
    check_output(output, identities([args.input]), force=args.force)
    from jvrc.training.run.log import read_metrics
    from jvrc.training.run.log_plot import plot_run

    rows = read_metrics(metrics)
    if not rows:
        raise ValueError(f"{metrics}: nothing is reported yet: wait for more training steps")
    plot_run(rows, output, title=args.input.resolve().name)
    print(f"{output}: step {rows[-1]['step']}, {output.stat().st_size} bytes")
