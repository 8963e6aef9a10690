"""The mean loss of every row on each set: LoReUn's figure 2."""

from __future__ import annotations

from loreun_bench.report.charts.chart import Axis, DotPlot, Mark, Series
from loreun_bench.report.charts.rows import BEYOND, bars, mark, names, shown
from loreun_bench.report.group import Group
from loreun_bench.report.rows import Row
from loreun_bench.report.text import plain

SETS = {"forget_loss": "forget set", "retain_loss": "retain set", "test_loss": "test set"}


def losses(group: Group) -> DotPlot | None:
    """Mean losses by set, Retrain's first; None where none was measured."""
    if not any(group.measured(key) for key in SETS):
        return None
    rows, note = shown(sorted(group.rows, key=lambda row: row.method != "Retrain"), lambda r: any(_mark(r, k) for k in SETS))
    if not rows:
        return None
    retrain = next((row for row in rows if row.method == "Retrain"), None)
    lines = {key: found.value if retrain and (found := _mark(retrain, key)) else None for key in SETS}
    series = [Series(name, tuple(_mark(row, key) for row in rows), lines[key]) for key, name in SETS.items()]
    drawn = tuple(own for own in series if any(own.marks))
    positive = any(found.value > 0 for own in drawn for found in own.marks if found)
    points = bars(m for own in drawn for m in own.marks)
    about = f"{points}{BEYOND}. Good unlearning has Retrain's losses on all sets: the lines."
    return DotPlot("loss", "Mean loss by set", plain(group.title), about, Axis("mean loss (nats)", log=positive),
                   names(rows), drawn, line="Retrain" if retrain else "", note=note)  # fmt: skip


def _mark(row: Row, key: str) -> Mark | None:
    cell = row.cells.get(key)
    return None if cell is None or cell.uninformative else mark(cell.value)
