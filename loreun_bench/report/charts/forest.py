"""How far every row is from Retrain, or where it stands by what else ranks."""

from __future__ import annotations

from collections.abc import Sequence

from loreun_bench.report.charts.chart import Axis, DotPlot, Series
from loreun_bench.report.charts.rows import BEYOND, bars, kind, kinds, names, noise, rank, ranking, shown
from loreun_bench.report.group import Group
from loreun_bench.report.rows import Column, Row
from loreun_bench.report.text import plain

WAY = {"high": ", higher is better", "low": ", lower is better"}


def axis(column: Column) -> Axis:
    """The axis of the column that ranks: 1 − ToW, logarithmic, or the column itself."""
    if column.key == "tow":
        return Axis("1 − ToW: distance to Retrain, 0 is best", log=True)
    unit = f" ({plain(column.unit)})" if column.unit else ""
    return Axis(f"{plain(column.heading)}{unit}{WAY.get(column.best, '')}")


def forest(group: Group) -> DotPlot | None:
    """The column that ranks, of every row; None where no row has it. ToW: Retrain, at 0, is not a row of it."""
    column = ranking(group)
    if column is None:
        return None
    far = column.key == "tow"
    rows, note = shown((r for r in group.rows if not (far and r.method == "Retrain")), lambda r: rank(r, column) is not None)
    if not rows:
        return None
    original = None if far else next((rank(row, column) for row in rows if row.method == "Original"), None)
    band = noise(group, column)
    series = _series(group, rows, column, original.value if original else None)
    title = "Distance to Retrain" if far else f"{plain(column.heading)} of every row"
    about = _about(column, bars(mark for own in series for mark in own.marks), band is not None)
    return DotPlot("tow" if far else "rank", title, plain(group.title), about, axis(column), names(rows), series, band,
                   "Original" if original else "", note)  # fmt: skip


def _series(group: Group, rows: Sequence[Row], column: Column, line: float | None) -> tuple[Series, ...]:
    """A series a kind of rows."""
    return tuple(
        Series(name, tuple(rank(row, column) if kind(row) == name else None for row in rows), line) for name in kinds(group)
    )


def _about(column: Column, points: str, band: bool) -> str:
    if column.key != "tow":
        return f"{points}. {plain(column.entry.summary) if column.entry else ''}".strip()
    second = " The band is the interval of a second retraining's mean; the verdict goes seed by seed." if band else ""
    return f"{points}{BEYOND}.{second}"
