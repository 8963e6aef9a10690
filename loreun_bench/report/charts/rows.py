"""What all charts take from a table: the rows that are shown, their names, a number as a mark, what is left out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from loreun_bench.report.charts.chart import Band, Mark, Name
from loreun_bench.report.group import Group
from loreun_bench.report.layout import layout
from loreun_bench.report.noise import band
from loreun_bench.report.rows import REFERENCES, Column, Row
from loreun_bench.report.statistics.estimate import Estimate
from loreun_bench.report.text import count, plain

MOST = 60  # rows of a chart
CROWD = 24  # points in a plane, from which on their intervals would hide them
NAMED = 6  # rows left out that are listed by name


def shown(rows: Iterable[Row], drawn: Callable[[Row], bool], lacking: str = "a number") -> tuple[list[Row], str]:
    """The rows of a chart: those that can be drawn, at most MOST; and what is to be said of the others, or "". lacking: what
    these have not got."""
    rows = list(rows)
    found = [row for row in rows if drawn(row)]
    lost = [plain(row.name) for row in rows if not drawn(row)]
    notes = [f"The first {MOST} of {len(found)} rows."] if len(found) > MOST else []
    if lost:
        others = [f"{len(lost) - NAMED} more"] if len(lost) > NAMED else []
        notes.append(f"Left out for lack of {lacking}: {', '.join([*lost[:NAMED], *others])}.")
    return found[:MOST], " ".join(notes)


def names(rows: Sequence[Row]) -> tuple[Name, ...]:
    """The rows' names, with their runs where these are several, and how many seeds finished where some did not."""
    several = len({row.run for row in rows}) > 1
    return tuple(Name(_name(row, several), row.method in REFERENCES) for row in rows)


def _name(row: Row, several: bool) -> str:
    seeds = "" if row.complete else f" ({len(row.finished)} of {count(row.expected, 'seed')})"
    return plain(f"{row.run}: {row.name}{seeds}" if several else f"{row.name}{seeds}")


def kind(row: Row) -> str:
    """What a row has its colour for: its weighting."""
    return "unweighted" if row.weighting == "none" else plain(row.weighting)


def kinds(group: Group) -> tuple[str, ...]:
    """The kinds of a table's rows in the order of their colours, which are those of all its charts: the unweighted first."""
    return tuple(sorted({kind(row) for row in group.rows}, key=lambda name: (name != "unweighted", name)))


def mark(value: Estimate) -> Mark | None:
    """An estimate as a mark; None where it is no number."""
    if not math.isfinite(value.mean):
        return None
    return Mark(value.mean, *(value.interval or (value.mean, value.mean)))


def bars(marks: Iterable[Mark | None]) -> str:
    """What points and their bars are, as the beginning of a sentence."""
    known = any(mark.low < mark.high for mark in marks if mark)
    return f"Points are means over seeds{', bars their 95 % intervals' if known else '; no interval is known'}"


BEYOND = "; a bar without an end mark goes on beyond the axis"


def ranking(group: Group) -> Column | None:
    """The column that ranks: the first of the track's in which any row has a value."""
    keys = [key for keys in layout(group.track).sort for key in keys.split("|")]
    there = {key for row in group.rows for key, values in row.values.items() if values}
    known = {column.key: column for column in group.columns}
    return next((known[key] for key in keys if key in known and key in there), None)


def rank(row: Row, column: Column) -> Mark | None:
    """A row's number in the column that ranks: of ToW what it lacks of 1, whose interval is the other way round."""
    found = mark(row.cells[column.key].value)
    if found is None or column.key != "tow":
        return found
    return Mark(1 - found.value, 1 - found.high, 1 - found.low)


def noise(group: Group, column: Column) -> Band | None:
    """What a second retraining's ToW lacks of 1; of several runs that of the first which has one."""
    if column.key != "tow":
        return None
    runs = dict.fromkeys(row.run for row in group.rows)
    for run in runs:
        if (value := band(group, run)) is not None and value.interval is not None:
            low, high = value.interval
            return Band(1 - high, 1 - low, "a second retraining" + (f" of {plain(run)}" if len(runs) > 1 else ""))
    return None
