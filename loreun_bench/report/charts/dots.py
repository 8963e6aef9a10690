"""A DotPlot as a sketch: a line a row, and its marks beside one another, or below where there are several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from loreun_bench.report.charts.chart import DotPlot, Mark, Name
from loreun_bench.report.charts.legend import legend
from loreun_bench.report.charts.scale import Scale, scale
from loreun_bench.report.charts.sketch import (
    LETTER,
    LINE,
    SIZE,
    WIDTH,
    Area,
    Marker,
    Part,
    Sketch,
    Stroke,
    Words,
    fitted,
    look,
    number,
    wide,
)

NAMES, RIGHT = 250.0, 18.0  # the most room for names; what is free at the right
BETWEEN = 8.0  # marks of a row
MANY = 25  # rows from which on the ticks are written above, too


def dots(chart: DotPlot) -> Sketch:
    """The whole plot."""
    marks = [mark for own in chart.series for mark in own.marks if mark]
    lines = [own.line for own in chart.series if own.line is not None]
    found = scale(chart.axis, marks, [*lines, *((chart.band.low, chart.band.high) if chart.band else ())])
    parts, top = legend(_entries(chart))
    top += LINE if len(chart.rows) >= MANY else 0
    most = max(sum(own.marks[i] is not None for own in chart.series) for i in range(len(chart.rows)))
    frame = _Frame(_left(chart.rows), top, LINE + BETWEEN * (most - 1), len(chart.rows), found)
    rows = [part for i in range(len(chart.rows)) for part in _row(chart, i, frame)]
    return Sketch(frame.bottom + 2 * LINE + 6, [*parts, *_ground(chart, frame), *_lines(chart, frame), *rows])


class _Frame:
    """Where rows and values are."""

    def __init__(self, left: float, top: float, pitch: float, rows: int, found: Scale) -> None:
        self.left, self.top, self.pitch, self.scale = left, top, pitch, found
        self.bottom = top + pitch * rows + 4

    def x(self, value: float) -> float:
        return self.left + self.scale.at(value) * (WIDTH - RIGHT - self.left)

    def y(self, row: int) -> float:
        return self.top + self.pitch * (row + 0.5) + 2


def _entries(chart: DotPlot) -> list[tuple[str, int | None, str]]:
    several = len(chart.series) > 1
    drawn = [(i, own) for i, own in enumerate(chart.series) if several and any(own.marks)]
    found: list[tuple[str, int | None, str]] = [(*look(i), own.name) for i, own in drawn]
    if chart.band:
        found.append(("band", None, chart.band.label))
    if chart.line:
        found.append(("quiet", None, chart.line))
    return found


def _left(rows: Sequence[Name]) -> float:
    return 16 + min(NAMES, max(wide(name.text) for name in rows))


def _ground(chart: DotPlot, frame: _Frame) -> Iterator[Part]:
    """What lies under the marks."""
    if chart.band:
        low, high = frame.x(chart.band.low), frame.x(chart.band.high)
        tip = f"{chart.band.label}: {number(chart.band.low)} to {number(chart.band.high)}"
        yield Area("band", low, frame.top, max(high - low, 1.5), frame.bottom - frame.top, tip)
    if frame.pitch > LINE:  # marks of a row are below one another: where it ends has to be seen
        ends = [frame.top + 2 + frame.pitch * i for i in range(1, len(chart.rows))]
        yield Stroke("grid", tuple(((8.0, y), (WIDTH - RIGHT, y)) for y in ends))
    ticks = frame.scale.ticks()
    yield Stroke("grid", tuple(((frame.x(v), frame.top), (frame.x(v), frame.bottom)) for v, _ in ticks))
    for value, text in ticks:
        for y in (frame.bottom + SIZE + 2, *((frame.top - 5,) if len(chart.rows) >= MANY else ())):
            yield Words("quiet", frame.x(value), y, text, "middle", SIZE - 1)
    yield Words("ink", (frame.left + WIDTH - RIGHT) / 2, frame.bottom + 2 * LINE, chart.axis.label, "middle")


def _lines(chart: DotPlot, frame: _Frame) -> Iterator[Part]:
    """The lines to compare with: one for all series, or each in its colour."""
    values = [own.line for own in chart.series]
    for i, value in enumerate(values[:1] if len(set(values)) == 1 else values):
        if value is not None:
            name = "quiet" if len(set(values)) == 1 else look(i)[0]
            ends = (frame.x(value), frame.top), (frame.x(value), frame.bottom)
            yield Stroke(name, (ends,), 1.5, dashed=True, tip=f"{chart.line}: {number(value)}")


def _row(chart: DotPlot, i: int, frame: _Frame) -> Iterator[Part]:
    name, y = chart.rows[i], frame.y(i)
    text = fitted(name.text, frame.left - 16 + LETTER)
    yield Words("quiet" if name.reference else "ink", frame.left - 8, y + SIZE / 3, text, "end")
    there = [(turn, own.marks[i]) for turn, own in enumerate(chart.series) if own.marks[i]]
    for place, (turn, mark) in enumerate(there):
        assert mark is not None
        title = name.text if len(chart.series) == 1 else f"{name.text}, {chart.series[turn].name}"
        yield from marked(mark, frame, y + BETWEEN * (place - (len(there) - 1) / 2), turn, name.reference, title)


def marked(mark: Mark, frame: _Frame, y: float, turn: int, reference: bool, title: str) -> Iterator[Part]:
    """A mark with its interval, which has a stop at each end that is on the axis."""
    colour, shape = look(turn)
    colour = "reference" if reference else colour
    tip = f"{title}: {number(mark.value)}"
    if mark.low < mark.high:
        tip += f" [{number(mark.low)}, {number(mark.high)}]"
        ends = [end for end in (mark.low, mark.high) if not frame.scale.beyond(end)]
        stops = [((frame.x(end), y - 3), (frame.x(end), y + 3)) for end in ends]
        yield Stroke(colour, (((frame.x(mark.low), y), (frame.x(mark.high), y)), *stops), 1.5, tip=tip)
    yield Marker(colour, shape, frame.x(mark.value), y, tip=tip)
