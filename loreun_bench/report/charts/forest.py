"""How far every row is from Retrain, or where it stands by what else ranks."""

from __future__ import annotations

from loreun_bench.report.charts.chart import Axis, DotPlot
from loreun_bench.report.charts.rows import by_kind, names, noise, rank, ranking, shown
from loreun_bench.report.group import Group
from loreun_bench.report.rows import Column
from loreun_bench.report.text import plain

WAY = {"high": ", higher is better", "low": ", lower is better"}
BARS = "Points are means over seeds, bars their 95 % intervals"


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
    about = [f"{BARS}; a bar without an end mark goes on beyond the axis." if far else f"{BARS}."]
    if band is not None:
        about.append("A row within the band is as far from Retrain as another retraining is.")
    series = by_kind(rows, lambda row: rank(row, column), original.value if original else None)
    title = "Distance to Retrain" if far else plain(column.heading)
    line = "Original" if original else ""
    return DotPlot("tow" if far else "rank", title, plain(group.title), " ".join(about), axis(column), names(rows), series,
                   band, line, note)  # fmt: skip
