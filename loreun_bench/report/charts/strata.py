"""Whether rows forget the easy samples as Retrain does, and the hard ones too: LoReUn weights by that."""

from __future__ import annotations

from loreun_bench.report.charts.chart import Axis, DotPlot, Mark, Series
from loreun_bench.report.charts.rows import bars, mark, names, shown
from loreun_bench.report.group import Group
from loreun_bench.report.rows import Row
from loreun_bench.report.statistics.estimate import estimate
from loreun_bench.report.text import plain

QUARTILES = {
    "forget_acc_q1": "least loss",
    "forget_acc_q2": "2nd quarter",
    "forget_acc_q3": "3rd quarter",
    "forget_acc_q4": "greatest loss",
}


def strata(group: Group) -> DotPlot | None:
    """By quarter of the forget set, in order of the original's loss: accuracy less Retrain's; None where not measured."""
    if not any(group.measured(key) for key in QUARTILES):
        return None
    others = [row for row in group.rows if row.method != "Retrain"]
    rows, note = shown(others, lambda row: any(_gap(group, row, key) for key in QUARTILES))
    if not rows:
        return None
    series = [Series(name, tuple(_gap(group, row, key) for row in rows), 0.0) for key, name in QUARTILES.items()]
    about = (
        "The forget set in quarters by the original model's loss. Left of the line a row knows less of a quarter than "
        f"Retrain, right of it more. {bars(m for own in series for m in own.marks)}, none where all seeds are alike."
    )
    title = "Forget accuracy less Retrain's, by the original's loss"
    axis = Axis("accuracy less Retrain's (percentage points)")
    drawn = tuple(own for own in series if any(own.marks))
    return DotPlot("strata", title, plain(group.title), about, axis, names(rows), drawn, line="Retrain", note=note)


def _gap(group: Group, row: Row, key: str) -> Mark | None:
    """A row's mean difference to Retrain, with the interval of the differences seed by seed."""
    cell, retrain = row.cells.get(key), group.row("Retrain", row.run)
    if cell is None or cell.gap is None or retrain is None:
        return None
    theirs = retrain.values.get(key, {})
    gaps = [value - theirs[seeds] for seeds, value in row.values.get(key, {}).items() if seeds in theirs]
    return mark(estimate(gaps, independent=row.independent))
