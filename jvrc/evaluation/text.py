"""Tables of results as plain text, for a terminal."""

from jvrc.evaluation.measure import Point
from jvrc.evaluation.metrics import MS_SSIM_MIN_SIDE, SSIMULACRA2_MIN_SIDE
from jvrc.evaluation.summary import METRICS, MOSTLY, BdRate, Mean

_COLUMNS = (  # heading, field of Mean, format
    ("setting", "setting", "g"),
    ("bytes", "bytes", ".0f"),
    ("bpp", "bpp", ".3f"),
    ("PSNR", "psnr", ".2f"),
    ("luma", "psnr_luma", ".2f"),
    ("MS-SSIM", "ms_ssim", ".4f"),
    ("dB of mean", "ms_ssim_db_of_mean", ".2f"),
    ("mean of dB", "ms_ssim_mean_of_db", ".2f"),
    ("SSIMULACRA 2", "ssimulacra2", ".2f"),
    ("enc s", "encode_s", ".2f"),
    ("dec s", "decode_s", ".2f"),
    ("enc CPU s", "encode_cpu_s", ".2f"),
    ("dec CPU s", "decode_cpu_s", ".2f"),
)

_REASONS = (  # title, field of Point, why an image has none
    ("PSNR", "psnr", "came back unchanged"),
    ("luma PSNR", "psnr_luma", "came back with its luma unchanged"),
    ("MS-SSIM", "ms_ssim", f"has a side below {MS_SSIM_MIN_SIDE} pixels"),
    ("SSIMULACRA 2", "ssimulacra2", f"has a side below {SSIMULACRA2_MIN_SIDE} pixels"),
)


def means_cells(rows: list[Mean]) -> list[list[str]]:
    """Return the headings, then the cells of each mean; the first column is the coder."""
    return [["coder", *(title for title, _, _ in _COLUMNS)], *map(_mean_cells, rows)]


def means_table(rows: list[Mean]) -> str:
    """Return a line for each mean, under a line of headings."""
    return _table(means_cells(rows))


def gaps(points: list[Point]) -> list[str]:
    """Return a line for each distortion whose mean some settings lack, as an image has none."""
    lines = []
    for title, field, reason in _REASONS:
        without = [p for p in points if getattr(p, field) is None]
        if without:
            count = len({(p.coder, p.version, p.setting) for p in without})
            first = f"{without[0].image} ({without[0].coder}, {without[0].setting:g})"
            lines.append(f"{title}: no mean of {count} settings: {first} {reason}")
    return lines


def bd_rate_tables(pairs: list[BdRate]) -> str:
    """Return a table for each tested coder and range of rates: a line an anchor, a column a metric.

    In percent, negative if the tested coder needs fewer bits; by PCHIP, over what both cover, and
    how much of the range that is where it is not nearly all.
    """
    groups: dict[tuple, list[BdRate]] = {}
    for pair in pairs:
        groups.setdefault((pair.test, pair.rates), []).append(pair)
    tables = [
        f"BD-rate of {test}, {in_words(rates)}, in percent; negative: fewer bits\n{_bd_rates(g)}"
        for (test, rates), g in groups.items()
    ]
    return "\n\n".join(tables)


def in_words(rates: tuple[float, float] | None) -> str:
    """Return a range of rates as text."""
    return "{:g} … {:g} bpp".format(*rates) if rates else "all rates"


def _mean_cells(row: Mean) -> list[str]:
    return [row.coder, *(_number(getattr(row, name), form) for _, name, form in _COLUMNS)]


def bd_rate_cell(pair: BdRate | None) -> str:
    """Return a BD-rate in percent, with how much of its range it covers if that is not nearly all.

    "-" if the curves share no quality.
    """
    if pair is None:
        return "-"
    part = "" if pair.covered >= MOSTLY else f" (over {100 * pair.covered:.0f} %)"
    return f"{pair.percent:+.1f}{part}"


def _bd_rates(pairs: list[BdRate]) -> str:
    found = {(p.anchor, p.metric): p for p in pairs}
    shown = [m for m in METRICS if m.name in {p.metric for p in pairs}]
    lines = [
        [anchor, *(bd_rate_cell(found.get((anchor, m.name))) for m in shown)]
        for anchor in dict.fromkeys(p.anchor for p in pairs)
    ]
    return _table([["against", *(m.title for m in shown)], *lines])


def _table(lines: list[list[str]]) -> str:
    """Return lines of columns two spaces apart: the first to the left, the others to the right."""
    first, *others = (max(map(len, column)) for column in zip(*lines, strict=True))
    return "\n".join(
        "  ".join([f"{label:{first}}", *(f"{c:>{w}}" for c, w in zip(cells, others, strict=True))])
        for label, *cells in lines
    )


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"
