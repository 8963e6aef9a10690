"""What is said of a row beside its numbers: the best of a column, and what went wrong with it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from loreun_bench.report.group import Group
from loreun_bench.report.layout import layout
from loreun_bench.report.rows import REFERENCES, Cell, Column, Row
from loreun_bench.report.statistics.estimate import mean

MARKS = {"over": "†", "damaged": "‡", "unforgotten": "§"}
WORDS = {"over": "over-unlearned", "damaged": "damaged", "unforgotten": "nothing forgotten"}
OUT = 5.0  # points that are more than noise
SAME = 1.0  # points that are none


def symbols(row: Row) -> str:
    """The row's marks."""
    return "".join(symbol for name, symbol in MARKS.items() if name in row.marks)


def legend(groups: Sequence[Group]) -> list[str]:
    """A line for every mark that occurs in these groups of one track."""
    usual = layout(groups[0].track)
    found = {mark for group in groups for row in group.rows for mark in row.marks}
    kept = " or ".join(column.heading for column in groups[0].columns if column.key in usual.keeps)
    words = {
        "over": f"UA more than {OUT:g} points below Retrain's and below Original's.",
        "damaged": f"{kept} more than {OUT:g} points below Original's of the same seeds.",
        "unforgotten": f"UA moved at most {SAME:g} point, and at most half the way, from Original's towards Retrain's."
        if usual.retrain
        else "UA within the noise of Original's, as far as these pictures tell.",
    }
    return [f"{symbol} {WORDS[name]}: {words[name]}" for name, symbol in MARKS.items() if name in found]


def mark(group: Group) -> None:
    """Set the marks of a group's rows, whose cells are filled, and the best of each column."""
    for row in group.rows:
        if row.method not in REFERENCES:
            row.marks = _marks(row, group)
    runs = [[row for row in group.rows if row.run == run] for run in dict.fromkeys(row.run for row in group.rows)]
    for rows in runs if group.apart else [group.rows]:
        for column in group.columns:
            _mark_best(column, rows)


def _marks(row: Row, group: Group) -> set[str]:
    usual, found = layout(group.track), set()
    to_retrain, to_original = (_difference(row, group, usual.ua, name) for name in ("Retrain", "Original"))
    below = to_original is None or to_original < 0
    if usual.retrain and to_retrain is not None and to_retrain < -OUT and below:
        found.add("over")
    lost = [_difference(row, group, key, "Original") for key in usual.keeps]
    if any(each is not None and each < -OUT for each in lost):
        found.add("damaged")
    if to_original is not None and _same(row, group, to_original):
        found.add("unforgotten")
    return found


def _same(row: Row, group: Group, difference: float) -> bool:
    """Whether UA is where Original's is, and there was something to forget."""
    usual, original = layout(group.track), group.row("Original", row.run)
    if original is None:
        return False
    if usual.retrain:
        gap = original.cells[usual.ua].gap
        if gap is None or abs(gap) <= SAME:
            return False
        return -difference * math.copysign(1, gap) <= min(SAME, abs(gap) / 2)
    value, own = original.cells[usual.ua].value, row.cells[usual.ua].value.mean
    low, high = value.interval or (value.mean - SAME, value.mean + SAME)
    return low <= own <= high and value.mean > OUT


def _difference(row: Row, group: Group, key: str, method: str) -> float | None:
    """Mean difference of a metric to that of `method` with the same seeds."""
    pairs = [(record, group.partner(record, row.run, method)) for record in row.finished]
    found = [
        r.metrics[key] - other.metrics[key]
        for r, other in pairs
        if other is not None and key in r.metrics and key in other.metrics
    ]
    middle = mean(found)
    return middle if math.isfinite(middle) else None


def distance(column: Column, cell: Cell) -> float:
    """How far a cell is from the best: the mean absolute gap to Retrain, or the value in the direction that is better."""
    if cell.uninformative:
        return math.inf
    if column.best == "retrain":
        return cell.distance if cell.distance is not None and math.isfinite(cell.distance) else math.inf
    value = -cell.value.mean if column.best == "high" else cell.value.mean
    return value if math.isfinite(value) else math.inf


def _mark_best(column: Column, rows: Sequence[Row]) -> None:
    if not column.best:
        return
    ranked = [row for row in rows if row.method not in REFERENCES and row.complete]
    found = {id(row): (distance(column, row.cells[column.key]), row.cells[column.key].lacks) for row in ranked}
    whole = min((len(lacks) for far, lacks in found.values() if math.isfinite(far)), default=0)
    least = min((far for far, lacks in found.values() if len(lacks) == whole), default=math.inf)
    for row in ranked:
        far, lacks = found[id(row)]
        if math.isfinite(far) and len(lacks) == whole and far <= least + 1e-9:
            row.best.add(column.key)
