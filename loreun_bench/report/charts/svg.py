"""A chart as an inline SVG element, for a page that allows no style and no script: looks are attributes and classes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from html import escape
from itertools import groupby

from loreun_bench.report.charts.chart import Chart
from loreun_bench.report.charts.draw import drawn
from loreun_bench.report.charts.sketch import FAINT, LOOKS, SIZE, WIDTH, Area, Marker, Part, Stroke, Words
from loreun_bench.report.text import plain


def svg(chart: Chart) -> str:
    """The element `<svg>`, well-formed as XML. Its <title> and <desc> hold the chart's title and how to read it, which are
    not written in the picture: the page does that.

    Classes, all on groups, so that a page's own rules for `fill` and `stroke` reach what is in them: ink, quiet, grid, band,
    reference, s0 … s6.
    """
    sketch = drawn(chart)
    own = f"{chart.key}-{hashlib.sha256(repr(chart).encode(errors='replace')).hexdigest()[:12]}"
    groups = (
        f'<g class="{look}" fill="{LOOKS[look]}" stroke="{LOOKS[look]}">{_tipped(parts)}</g>'
        for look, parts in groupby(sketch.parts, lambda part: part.look)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {sketch.height:.0f}" role="img" '
        f'aria-labelledby="{_safe(own)}-t {_safe(own)}-d" font-family="system-ui, sans-serif" font-size="{SIZE:g}">'
        f'<title id="{_safe(own)}-t">{_safe(f"{chart.title}: {chart.compared}")}</title>'
        f'<desc id="{_safe(own)}-d">{_safe(f"{chart.about} {chart.note}".strip())}</desc>{"".join(groups)}</svg>'
    )


def _safe(text: str) -> str:
    """Text that XML can hold: no control character, nothing that is markup."""
    return escape(plain(text))


def _tipped(parts: Iterable[Part]) -> str:
    """The parts, those beside one another with the same tip in one group."""
    found = ((tip, "".join(map(_body, own))) for tip, own in groupby(parts, lambda part: part.tip))
    return "".join(f"<g><title>{_safe(tip)}</title>{body}</g>" if tip else body for tip, body in found)


def _body(part: Part) -> str:
    if isinstance(part, Words):
        anchor = f' text-anchor="{part.anchor}"' if part.anchor != "start" else ""
        size = f' font-size="{part.size:g}"' if part.size != SIZE else ""
        weight = ' font-weight="bold"' if part.bold else ""
        return f'<text x="{_n(part.x)}" y="{_n(part.y)}" stroke="none"{anchor}{size}{weight}>{_safe(part.text)}</text>'
    if isinstance(part, Area):
        place = f'x="{_n(part.x)}" y="{_n(part.y)}" width="{_n(part.width)}" height="{_n(part.height)}"'
        return f'<rect {place} stroke="none"/>'
    if isinstance(part, Marker):
        return _marker(part)
    return _stroke(part)


def _marker(part: Marker) -> str:
    if not part.corners:
        return f'<circle cx="{_n(part.x)}" cy="{_n(part.y)}" r="{_n(part.radius)}" stroke="none"/>'
    return f'<path d="M{_path(part.corners)}z" stroke="none"/>'


def _stroke(part: Stroke) -> str:
    faint = f' stroke-opacity="{FAINT:g}"' if part.faint else ""
    dashes = ' stroke-dasharray="4 3"' if part.dashed else ""
    path = "".join(f"M{_path(line)}" for line in part.lines)
    return f'<path d="{path}" fill="none" stroke-width="{part.thick:g}"{faint}{dashes}/>'


def _path(points: tuple[tuple[float, float], ...]) -> str:
    return " ".join(f"{_n(x)},{_n(y)}" for x, y in points)


def _n(value: float) -> str:
    """A length to a tenth."""
    return f"{value:.1f}".removesuffix(".0")
