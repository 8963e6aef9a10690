"""A chart as a file: the sketch of it, with its title above and how to read it below."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from loreun_bench.report.charts.chart import Chart
from loreun_bench.report.charts.draw import drawn
from loreun_bench.report.charts.sketch import FAINT, LETTER, LINE, LOOKS, SIZE, WIDTH, Area, Marker, Part, Stroke, Words
from loreun_bench.report.figures.style import figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INCH = 100.0  # of a sheet's units
POINT = 72 / INCH
EDGE = 8.0
SMALL, APART = 11.0, 15.0  # letters, and the lines of them
SHAPES = "os^DvPX"  # matplotlib's names of sketch.SHAPES
ANCHORS = {"start": "left", "middle": "center", "end": "right"}


def plot(chart: Chart, out: Path) -> Path:
    """Draw a chart and return `out`, whose ending is the format. UserError for another ending or without matplotlib."""
    sketch = drawn(chart)
    above, top = _paragraph("ink", chart.title, LINE, bold=True, size=SIZE)
    more, top = _paragraph("quiet", chart.compared, top)
    below, height = _paragraph("quiet", f"{chart.about} {chart.note}".strip(), top + sketch.height + 4)
    sheet = figure(WIDTH / INCH, height / INCH)
    axes = sheet.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(height, 0))
    axes.set_axis_off()
    for part in (*above, *more, *below):
        _paint(axes, part, 0)
    for part in sketch.parts:
        _paint(axes, part, top - SMALL)
    return save(sheet, out)


def _paragraph(look: str, text: str, y: float, bold: bool = False, size: float = SMALL) -> tuple[list[Part], float]:
    """A text's lines, the first on the base line y, and the base line after the last."""
    lines = textwrap.wrap(text, int((WIDTH - 2 * EDGE) / (LETTER * size / SIZE))) or [""]
    words: list[Part] = [Words(look, EDGE, y + i * APART, line, size=size, bold=bold) for i, line in enumerate(lines)]
    return words, y + len(lines) * APART


def _paint(axes: Axes, part: Part, down: float) -> None:
    """Draw a part, so much further down."""
    from matplotlib.collections import LineCollection
    from matplotlib.patches import Rectangle

    colour = LOOKS[part.look]
    if isinstance(part, Stroke):
        lines = [[(x, y + down) for x, y in line] for line in part.lines]
        dashes = (0, (3, 2)) if part.dashed else "solid"
        alpha = FAINT if part.faint else 1.0
        width = part.thick * POINT
        axes.add_collection(LineCollection(lines, colors=colour, linewidths=width, linestyles=dashes, alpha=alpha, zorder=2))
    elif isinstance(part, Area):
        axes.add_patch(Rectangle((part.x, part.y + down), part.width, part.height, facecolor=colour, zorder=2))
    elif isinstance(part, Marker):
        size = 2 * part.radius * POINT
        axes.plot([part.x], [part.y + down], SHAPES[part.shape], color=colour, markersize=size, markeredgewidth=0, zorder=2)
    else:
        axes.text(
            part.x, part.y + down, part.text, ha=ANCHORS[part.anchor], va="baseline", fontsize=part.size * POINT,
            color=colour, weight="bold" if part.bold else "normal", parse_math=False, zorder=2,
        )  # fmt: skip
