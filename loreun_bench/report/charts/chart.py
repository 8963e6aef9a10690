"""What a chart shows, not how: rows of marks, or points in a plane. All text is in one line and printable, not escaped."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """What is along an axis, with its unit; log: whether it is logarithmic, so that what is not positive is at its end.
    shows: values that are on it in any case, so that small differences look small. whole: its values are whole numbers."""

    label: str
    log: bool = False
    shows: tuple[float, ...] = ()
    whole: bool = False


@dataclass(frozen=True)
class Mark:
    """A finite value and its 95 % interval, both ends the value itself where there is none."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Band:
    """A shaded stretch of an axis, and what it is."""

    low: float
    high: float
    label: str


@dataclass(frozen=True)
class Name:
    """What a row is called. reference: it is shown for orientation, in grey."""

    text: str
    reference: bool = False


@dataclass(frozen=True)
class Series:
    """Marks of one kind, one a row of the chart, None for a row without (all of them: the series only keeps its colour from
    others). line: the value to compare them with."""

    name: str
    marks: tuple[Mark | None, ...]
    line: float | None = None


@dataclass(frozen=True)
class DotPlot:
    """Rows by name, their marks along x.

    key: the stem of a file's name. compared: what was, in one line. about: a sentence on how to read it. line: what the
    series' lines are. note: what is left out.
    """

    key: str
    title: str
    compared: str
    about: str
    axis: Axis
    rows: tuple[Name, ...]
    series: tuple[Series, ...]
    band: Band | None = None
    line: str = ""
    note: str = ""


@dataclass(frozen=True)
class Trail:
    """A row's points (x, y), joined in their order if there are several. kind: what it has its colour for."""

    name: Name
    kind: str
    points: tuple[tuple[Mark, Mark], ...]


@dataclass(frozen=True)
class XY:
    """Rows as points or lines in a plane. kinds: all there are, in the order of their colours. band: along y; the other
    fields are those of DotPlot."""

    key: str
    title: str
    compared: str
    about: str
    x: Axis
    y: Axis
    kinds: tuple[str, ...]
    trails: tuple[Trail, ...]
    band: Band | None = None
    note: str = ""


Chart = DotPlot | XY
