"""Tables of results as plain text, for a terminal."""

from jvrc.evaluation.summary import BdRate, Mean


def means_table(rows: list[Mean]) -> str:
    """Return a line for each mean, under a line of headings."""
    wide = max(len(row.coder) for row in rows)
    head = f"{'coder':{wide}}  setting   bytes    bpp   PSNR  luma  MS-SSIM  enc s  dec s"
    return "\n".join([head, *(_mean_line(row, wide) for row in rows)])


def bd_rate_lines(pairs: list[BdRate]) -> str:
    """Return a line for each BD-rate, under a line that says what they are."""
    lines = ["BD-rate, RGB PSNR (PCHIP, over the range of dB that both curves cover):"]
    for p in pairs:
        lines.append(
            f"{p.percent:+7.1f} %  {p.test} against {p.anchor}, {p.low:.2f} … {p.high:.2f} dB"
        )
    return "\n".join(lines)


def _mean_line(row: Mean, wide: int) -> str:
    psnr, luma, ms_ssim = (
        _number(row.psnr, 6, 2),
        _number(row.psnr_luma, 5, 2),
        _number(row.ms_ssim, 7, 4),
    )
    return (
        f"{row.coder:{wide}}  {row.setting:7g} {row.bytes:7.0f}  {row.bpp:5.3f} "
        f"{psnr}  {luma}  {ms_ssim}  {row.encode_s:5.2f}  {row.decode_s:5.2f}"
    )


def _number(value: float | None, width: int, digits: int) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:{width}.{digits}f}"
