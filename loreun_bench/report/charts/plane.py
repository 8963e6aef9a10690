"""An XY as a sketch: points with intervals or lines, each with its row's name where there is room."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from loreun_bench.report.charts.chart import XY, Mark, Trail
from loreun_bench.report.charts.labels import Boxes
from loreun_bench.report.charts.legend import legend
from loreun_bench.report.charts.scale import Scale, scale
from loreun_bench.report.charts.sketch import (
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
)
from loreun_bench.report.text import count

LEFT, RIGHT, PLOT = 58.0, 14.0, 330.0
MORE = 4.0  # the plot's height for each row
LONGEST = 200.0  # room for a name
SMALL = SIZE - 1.5  # letters of names


def plane(chart: XY) -> Sketch:
    """The whole plot."""
    kinds = sorted({trail.kind for trail in chart.trails}, key=lambda name: (name != "unweighted", name))
    points = [point for trail in chart.trails for point in trail.points]
    band = [chart.band.low, chart.band.high] if chart.band else []
    x, y = scale(chart.x, [x for x, _ in points]), scale(chart.y, [y for _, y in points], band)
    parts, top = legend(_entries(chart, kinds))
    frame = _Frame(top + LINE, top + LINE + PLOT + MORE * len(chart.trails), x, y)
    looks = {trail: _look(trail, kinds) for trail in chart.trails}
    drawn = [part for trail in reversed(chart.trails) for part in _trail(trail, frame, *looks[trail])]
    named, lost = _named(chart.trails, frame)
    if lost:
        text = f"{count(lost, 'row')} without a name here, for lack of room."
        named.append(Words("quiet", WIDTH - RIGHT, frame.top - 6, text, "end", SMALL))
    return Sketch(frame.bottom + 2 * LINE + 6, [*parts, *_ground(chart, frame), *drawn, *named])


class _Frame:
    """Where values are."""

    def __init__(self, top: float, bottom: float, across: Scale, up: Scale) -> None:
        self.top, self.bottom, self.across, self.up = top, bottom, across, up

    def x(self, value: float) -> float:
        return LEFT + self.across.at(value) * (WIDTH - RIGHT - LEFT)

    def y(self, value: float) -> float:
        return self.bottom - self.up.at(value) * (self.bottom - self.top)


def _look(trail: Trail, kinds: Sequence[str]) -> tuple[str, int]:
    colour, shape = look(kinds.index(trail.kind))
    return "reference" if trail.name.reference else colour, shape


def _entries(chart: XY, kinds: Sequence[str]) -> list[tuple[str, int | None, str]]:
    ranked = {trail.kind for trail in chart.trails if not trail.name.reference}
    found: list[tuple[str, int | None, str]] = [(*look(i), name) for i, name in enumerate(kinds) if name in ranked]
    found = found if len(kinds) > 1 else []
    return [*found, *([("band", None, chart.band.label)] if chart.band else [])]


def _ground(chart: XY, frame: _Frame) -> Iterator[Part]:
    """What lies under the points."""
    right = WIDTH - RIGHT
    if chart.band:
        high, low = frame.y(chart.band.high), frame.y(chart.band.low)
        tip = f"{chart.band.label}: {number(chart.band.low)} to {number(chart.band.high)}"
        yield Area("band", LEFT, high, right - LEFT, max(low - high, 1.5), tip)
    across, up = frame.across.ticks(), frame.up.ticks()
    yield Stroke("grid", (
        *(((frame.x(v), frame.top), (frame.x(v), frame.bottom)) for v, _ in across),
        *(((LEFT, frame.y(v)), (right, frame.y(v))) for v, _ in up),
    ))  # fmt: skip
    for value, text in across:
        yield Words("quiet", frame.x(value), frame.bottom + SIZE + 3, text, "middle", SIZE - 1)
    for value, text in up:
        yield Words("quiet", LEFT - 6, frame.y(value) + SIZE / 3, text, "end", SIZE - 1)
    yield Words("ink", (LEFT + right) / 2, frame.bottom + 2 * LINE, chart.x.label, "middle")
    yield Words("ink", 8, frame.top - 6, chart.y.label)


def _trail(trail: Trail, frame: _Frame, colour: str, shape: int) -> Iterator[Part]:
    for x, y in trail.points:
        px, py = frame.x(x.value), frame.y(y.value)
        bars = [
            *([((frame.x(x.low), py), (frame.x(x.high), py))] if x.low < x.high else []),
            *([((px, frame.y(y.low)), (px, frame.y(y.high)))] if y.low < y.high else []),
        ]
        if bars:
            yield Stroke(colour, tuple(bars), faint=True)
    places = tuple((frame.x(x.value), frame.y(y.value)) for x, y in trail.points)
    if len(places) > 1:
        yield Stroke(colour, (places,), 1.5, tip=trail.name.text)
    for (x, y), (px, py) in zip(trail.points, places, strict=True):
        tip = f"{trail.name.text}: {_told(x)}; {_told(y)}"
        yield Marker(colour, shape, px, py, 4.5 if len(places) == 1 else 3.0, tip)


def _told(mark: Mark) -> str:
    interval = f" [{number(mark.low)}, {number(mark.high)}]" if mark.low < mark.high else ""
    return f"{number(mark.value)}{interval}"


def _named(trails: Sequence[Trail], frame: _Frame) -> tuple[list[Part], int]:
    """The names beside the last points, the first rows' first, and how many rows have no room for theirs."""
    boxes = Boxes(LEFT, frame.top, WIDTH - RIGHT, frame.bottom)
    ends = [(frame.x(trail.points[-1][0].value), frame.y(trail.points[-1][1].value)) for trail in trails]
    for x, y in ends:
        boxes.block(x, y, 4.5)
    found: list[Part] = []
    for trail, (x, y) in zip(trails, ends, strict=True):
        text = fitted(trail.name.text, LONGEST)
        place = boxes.place(x, y, text, SMALL)
        if place is not None:
            found.append(Words("quiet" if trail.name.reference else "ink", *place, text, "start", SMALL))
    return found, len(trails) - len(found)
