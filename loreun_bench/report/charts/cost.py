"""What closeness costs: the time of unlearning against the column that ranks."""

from __future__ import annotations

from loreun_bench.report.charts.chart import XY, Axis, Mark, Trail
from loreun_bench.report.charts.forest import axis
from loreun_bench.report.charts.rows import CROWD, bars, kind, kinds, mark, names, noise, rank, ranking, shown
from loreun_bench.report.group import Group
from loreun_bench.report.rows import Column, Row
from loreun_bench.report.text import plain


def cost(group: Group) -> XY | None:
    """RTE against the column that ranks, a point a row; None where no row has both. Retrain's ToW, 1, is not drawn."""
    column = ranking(group)
    if column is None:
        return None
    far = column.key == "tow"
    others = [row for row in group.rows if not (far and row.method == "Retrain")]
    rows, note = shown(others, lambda row: _point(row, column) is not None, "a number or of any time")
    if not rows:
        return None
    points = [point for row in rows if (point := _point(row, column)) is not None]
    trails = tuple(Trail(name, kind(r), (p,)) for name, r, p in zip(names(rows), rows, points, strict=True))
    best = "Down" if far or column.best == "low" else "Up"
    crowd = "Points are means over seeds; the first chart has their intervals"
    told = bars(m for p in points for m in p) if len(rows) <= CROWD else crowd
    about = f"{best} and to the left is better: closer, and faster. {told}."
    title = f"Cost: RTE against {'1 − ToW' if far else plain(column.heading)}"
    time = Axis("RTE: time of unlearning (seconds)", log=True)
    return XY("rte", title, plain(group.title), about, time, axis(column), kinds(group), trails,
              noise(group, column), note)  # fmt: skip


def _point(row: Row, column: Column) -> tuple[Mark, Mark] | None:
    """A row's time and rank; None without one of them, or where it took no time."""
    x, y = mark(row.seconds), rank(row, column)
    return (x, y) if x is not None and y is not None and x.value > 0 else None
