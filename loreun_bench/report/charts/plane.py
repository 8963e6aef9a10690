"""An XY as a sketch: points with intervals or lines, each with its row's name where there is room."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from loreun_bench.report.charts.chart import XY, Mark, Trail
from loreun_bench.report.charts.labels import Boxes, spread
from loreun_bench.report.charts.legend import legend
from loreun_bench.report.charts.rows import CROWD
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
    wide,
)
from loreun_bench.report.text import count

LEFT, RIGHT, PLOT = 58.0, 14.0, 330.0
MORE = 4.0  # a plot of points is as much higher for each row
LONGEST = 200.0  # room for a name
SMALL = SIZE - 1.5  # letters of names
APART = SMALL + 1.0  # names below one another
FEW = 12  # lines whose every point is marked


def plane(chart: XY) -> Sketch:
    """The whole plot."""
    points = [point for trail in chart.trails for point in trail.points]
    lines = any(len(trail.points) > 1 for trail in chart.trails)
    band = [chart.band.low, chart.band.high] if chart.band else []
    x = scale(chart.x, [x for x, _ in points])
    y = scale(chart.y, [Mark(y.value, y.value, y.value) if lines else y for _, y in points], band)
    parts, top = legend(_entries(chart))
    n = len(chart.trails)
    high = max(PLOT, APART * n) if lines else PLOT + MORE * n
    frame = _Frame(top + LINE, top + LINE + high, _right(chart.trails) if lines else WIDTH - RIGHT, x, y)
    looks = {trail: _look(trail, chart.kinds) for trail in chart.trails}
    draw = _line if lines else _point
    few = n <= (FEW if lines else CROWD)
    drawn = [part for trail in reversed(chart.trails) for part in draw(trail, frame, *looks[trail], few)]
    names = _beside(chart.trails, frame) if lines else _near(chart.trails, frame)
    return Sketch(frame.bottom + 2 * LINE + 6, [*parts, *_ground(chart, frame), *drawn, *names])


def _right(trails: Sequence[Trail]) -> float:
    """Where the plot ends, with the names at its right."""
    return WIDTH - 28 - min(LONGEST, max(wide(trail.name.text, SMALL) for trail in trails))


class _Frame:
    """Where values are."""

    def __init__(self, top: float, bottom: float, right: float, across: Scale, up: Scale) -> None:
        self.top, self.bottom, self.right, self.across, self.up = top, bottom, right, across, up

    def x(self, value: float) -> float:
        return LEFT + self.across.at(value) * (self.right - LEFT)

    def y(self, value: float) -> float:
        return self.bottom - self.up.at(value) * (self.bottom - self.top)

    def end(self, trail: Trail) -> tuple[float, float]:
        """The last point."""
        x, y = trail.points[-1]
        return self.x(x.value), self.y(y.value)


def _look(trail: Trail, kinds: Sequence[str]) -> tuple[str, int]:
    colour, shape = look(kinds.index(trail.kind))
    return "reference" if trail.name.reference else colour, shape


def _entries(chart: XY) -> list[tuple[str, int | None, str]]:
    ranked = {trail.kind for trail in chart.trails if not trail.name.reference}
    found: list[tuple[str, int | None, str]] = [(*look(i), name) for i, name in enumerate(chart.kinds) if name in ranked]
    return [*(found if len(chart.kinds) > 1 else []), *([("band", None, chart.band.label)] if chart.band else [])]


def _ground(chart: XY, frame: _Frame) -> Iterator[Part]:
    """What lies under the points."""
    right = frame.right
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


def _point(trail: Trail, frame: _Frame, colour: str, shape: int, few: bool) -> Iterator[Part]:
    """A point, with its intervals where there are few."""
    ((x, y),), (px, py) = trail.points, frame.end(trail)
    bars = [
        *([((frame.x(x.low), py), (frame.x(x.high), py))] if x.low < x.high else []),
        *([((px, frame.y(y.low)), (px, frame.y(y.high)))] if y.low < y.high else []),
    ]
    if bars and few:
        yield Stroke(colour, tuple(bars), faint=True)
    yield Marker(colour, shape, px, py, 4.5, f"{trail.name.text}: {_told(x)}; {_told(y)}")


def _line(trail: Trail, frame: _Frame, colour: str, shape: int, few: bool) -> Iterator[Part]:
    """A line through its points, each marked where lines are few, else the last."""
    places = [(frame.x(x.value), frame.y(y.value)) for x, y in trail.points]
    first, last = trail.points[0][1], trail.points[-1][1]
    yield Stroke(colour, (tuple(places),), 1.5, tip=f"{trail.name.text}: from {number(first.value)} to {number(last.value)}")
    for (x, y), (px, py) in list(zip(trail.points, places, strict=True))[0 if few else -1 :]:
        yield Marker(colour, shape, px, py, 3.5, f"{trail.name.text}, {number(x.value)}: {_told(y)}")


def _told(mark: Mark) -> str:
    interval = f" [{number(mark.low)}, {number(mark.high)}]" if mark.low < mark.high else ""
    return f"{number(mark.value)}{interval}"


def _near(trails: Sequence[Trail], frame: _Frame) -> list[Part]:
    """The names near their points, the first rows' first; of those without room it is said how many they are."""
    boxes = Boxes(LEFT, frame.top, frame.right, frame.bottom)
    for trail in trails:
        boxes.block(*frame.end(trail), 5.5)
    found: list[Part] = []
    for trail in trails:
        text = fitted(trail.name.text, LONGEST)
        place = boxes.place(*frame.end(trail), text, SMALL)
        if place is not None:
            found.append(_name(trail, *place, text))
    if lost := len(trails) - len(found):
        text = f"{count(lost, 'row')} without a name here, for lack of room"
        found.append(Words("quiet", frame.right, frame.top - 6, text, "end", SMALL))
    return found


def _beside(trails: Sequence[Trail], frame: _Frame) -> Iterator[Part]:
    """The names at the right, in the order of the lines' ends, to which leaders go."""
    order = sorted(trails, key=lambda trail: frame.end(trail)[1])
    places = spread([frame.end(trail)[1] for trail in order], APART, frame.top, frame.bottom)
    for trail, y in zip(order, places, strict=True):
        end = frame.end(trail)
        yield Stroke("quiet", ((end, (frame.right, end[1]), (frame.right + 14, y)),), 0.5, faint=True)
        yield _name(trail, frame.right + 17, y + SMALL / 3, fitted(trail.name.text, LONGEST))


def _name(trail: Trail, x: float, base: float, text: str) -> Words:
    return Words("quiet" if trail.name.reference else "ink", x, base, text, size=SMALL)
