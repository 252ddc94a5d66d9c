"""Write into docs/results.md, README.md and docs/images/rd.png what docs/curves/kodak.json holds.

    python tests/benchmarks/write_results.py

The numbers of tables that follow from the curves alone are replaced, and the plot is drawn anew;
sentences, and columns of published curves, are left as they are: read them again.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import results_rows
from results_rows import CURVES, HEADINGS, MODEL, ROOT, SETTINGS

from jvrc.evaluation import plots, summary

_PLOT = ROOT / "docs" / "images" / "rd.png"
_PEERS = ("JPEG", "WebP", "JPEG XL", "AVIF", "AVIF, tune iq", "AVIF, speed 0")


def main() -> None:
    curves = summary.read_curves(CURVES)
    results, readme = ROOT / "docs" / "results.md", ROOT / "README.md"
    lines = _lines(results)
    for metric, heading in HEADINGS.items():
        _replace(lines, results_rows.codec_rows(curves, metric), after=heading)
    _replace(lines, results_rows.pair_rows(curves))
    _write(results, lines)
    lines = _lines(readme)
    _replace(lines, results_rows.readme_rows(curves))
    _write(readme, lines)
    ours = [MODEL + setting for setting in SETTINGS]
    drawn = {m: {name: curves[m][name] for name in (*ours, *_PEERS)} for m in HEADINGS}
    _PLOT.write_bytes(plots.rd_plot(drawn, ours, [], "Kodak, 24 images"))


def _replace(lines: list[str], rows: list[str], *, after: str = "") -> None:
    """Put rows in the places of those with the same first cell; further cells stay."""
    begin = lines.index(after) if after else 0
    for row in rows:
        place = next(i for i in range(begin, len(lines)) if _title(lines[i]) == _title(row))
        further = lines[place].split("|")[len(row.split("|")) :]
        lines[place] = "|".join([row, *further])


def _title(line: str) -> str:
    """Return the first cell of a row of a table; "" of other lines."""
    return line.split("|")[1].strip() if line.startswith("|") else ""


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n")


def _write(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines), encoding="utf-8")
    print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
