"""The report of `jvrc eval`: one HTML file with tables, a plot and images under a slider."""

import base64
import html
import json
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from string import Template

import numpy as np
from PIL import Image

from jvrc.evaluation import measure, peers, text
from jvrc.evaluation.measure import Coder
from jvrc.evaluation.peers import Peer
from jvrc.evaluation.summary import METRICS, BdRate, Mean, Metric

MAX_SIDE = 2**14 - 1  # pixels, of lossless WebP, in which images are shown
_TEMPLATE = Path(__file__).with_name("report.html")
_SHOWN_BY_BROWSERS = ("image/jpeg", "image/webp", "image/avif")


@dataclass(frozen=True)
class Version:
    """An image as one codec restores it, or the original."""

    label: str
    bytes: int | None  # None, as the next four, for the original
    bpp: float | None
    psnr: float | None  # dB
    ms_ssim: float | None
    ssimulacra2: float | None
    uri: str  # "data:..."


@dataclass(frozen=True)
class Comparison:
    """The versions of one image that the slider compares; the original comes first."""

    name: str
    height: int
    width: int
    versions: list[Version]


def compare(
    name: str, img: np.ndarray, coders: list[Coder], setting: float, against: list[Peer]
) -> Comparison:
    """Code an image with each coder at the setting, and with each peer in the first coder's bytes.

    A peer codes at the highest quality that needs no more bytes, or its lowest if all need more.
    """
    versions = [Version("original", *[None] * 5, _uri("image/webp", _lossless(img)))]
    for coder in coders:
        data = coder.encode(img, setting)
        restored = coder.decode(data)
        label = f"{coder.name}, {coder.unit} {setting:g}"
        uri = _uri("image/webp", _lossless(restored))
        versions.append(_version(label, img, data, restored, uri))
    limit = versions[1].bytes or 0
    versions += [_peer_version(peer, img, limit) for peer in against]
    return Comparison(name, *img.shape[:2], versions)


def _peer_version(peer: Peer, img: np.ndarray, limit: int) -> Version:
    data = peer.encode_within(img, limit) or peer.encode(img, 0)
    restored = peers.decode(data)
    shown = peer.mime in _SHOWN_BY_BROWSERS
    uri = _uri(peer.mime, data) if shown else _uri("image/webp", _lossless(restored))
    return _version(peer.title, img, data, restored, uri)


def _version(label: str, img: np.ndarray, data: bytes, restored: np.ndarray, uri: str) -> Version:
    found = measure.quality(img, restored)
    bpp = 8 * len(data) / (img.shape[0] * img.shape[1])
    measures = (found[name] for name in ("psnr", "ms_ssim", "ssimulacra2"))
    return Version(label, len(data), bpp, *measures, uri)


def page(
    title: str,
    facts: dict[str, str],
    rows: list[Mean],
    pairs: list[BdRate],
    plot: bytes,
    comparisons: list[Comparison],
) -> str:
    """Return the page. facts: names and values, shown as they are. plot: a PNG."""
    data = json.dumps([asdict(c) for c in comparisons]).replace("</", "<\\/")
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=html.escape(title),
        facts=_table(["", ""], [[html.escape(v) for v in item] for item in facts.items()]),
        plot=_uri("image/png", plot),
        means=_means_table(rows),
        pairs="".join(
            _matrix(pairs, metric, rates)
            for rates in dict.fromkeys(p.rates for p in pairs)
            for metric in METRICS
        ),
        comparisons=data,
    )


def _means_table(rows: list[Mean]) -> str:
    lines = text.means_cells(rows)
    return _table(lines[0], [[html.escape(cell) for cell in line] for line in lines[1:]])


def _matrix(pairs: list[BdRate], metric: Metric, rates: tuple[float, float] | None) -> str:
    """Return the table of BD-rates in a metric: a row for each tested coder, a column an anchor."""
    chosen = {(p.anchor, p.test): p for p in pairs if (p.metric, p.rates) == (metric.name, rates)}
    if not chosen:
        return ""
    names = list(dict.fromkeys(name for key in chosen for name in key))
    cells = [
        [html.escape(test), *(_cell(chosen.get((anchor, test))) for anchor in names)]
        for test in names
    ]
    heading = f"<h3>{metric.title}, {text.in_words(rates)}</h3>"
    return heading + _table(["BD-rate in % of … against", *map(html.escape, names)], cells)


def _cell(pair: BdRate | None) -> str:
    if pair is None:
        return "–"
    title = f"{pair.low:.2f} … {pair.high:.2f}: {100 * pair.covered:.0f} % of the range of rates"
    return f'<span title="{title}">{text.bd_rate_cell(pair)}</span>'


def _table(head: list[str], rows: list[list[str]]) -> str:
    """Return an HTML table; the cells are HTML."""

    def line(tag: str, cells: list[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"

    top = line("th", head) if any(head) else ""
    return f"<table>{top}{''.join(line('td', row) for row in rows)}</table>"


def _lossless(img: np.ndarray) -> bytes:
    buffer = BytesIO()
    Image.fromarray(img).save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


def _uri(mime: str, data: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"
