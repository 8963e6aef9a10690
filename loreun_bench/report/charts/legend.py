"""What the looks of a chart mean, in lines above it."""

from __future__ import annotations

from collections.abc import Sequence

from loreun_bench.report.charts.sketch import LINE, SIZE, WIDTH, Area, Marker, Part, Stroke, Words, fitted, wide

SWATCH, GAP, EDGE = 18.0, 18.0, 8.0
LONGEST = 260.0


def legend(entries: Sequence[tuple[str, int | None, str]]) -> tuple[list[Part], float]:
    """The parts, and the height they need. entries: (look, the marker's shape, words); without a shape a band is an area and
    everything else a dashed line."""
    parts: list[Part] = []
    x, y = EDGE, LINE - 4
    for look, shape, words in entries:
        words = fitted(words, LONGEST)
        whole = SWATCH + 4 + wide(words)
        if x > EDGE and x + whole > WIDTH - EDGE:
            x, y = EDGE, y + LINE
        parts += [_swatch(look, shape, x, y - SIZE / 3), Words("ink", x + SWATCH + 4, y, words)]
        x += whole + GAP
    return parts, y + 8 if entries else 4.0


def _swatch(look: str, shape: int | None, x: float, y: float) -> Part:
    if shape is not None:
        return Marker(look, shape, x + SWATCH / 2, y, 4.5)
    if look == "band":
        return Area(look, x, y - 5, SWATCH, 10)
    return Stroke(look, (((x, y), (x + SWATCH, y)),), 1.5, dashed=True)
