"""What each weighting changes: a row less its method unweighted, seed by seed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from loreun_bench.report.charts.chart import Axis, DotPlot, Mark, Series
from loreun_bench.report.charts.rows import kind, kinds, names, shown
from loreun_bench.report.group import Group
from loreun_bench.report.statistics.found import Difference
from loreun_bench.report.text import count, plain


def effects(group: Group) -> DotPlot | None:
    """By the first column that ranks, the differences that `compare` tests, method by method; None where there are none, for
    lack of weightings or of seeds."""
    first = [d for s in group.standings for d in s.unweighted if d.column is s.columns[0]]
    found = {id(d.row): d for d in first if math.isfinite(d.mean)}
    place = {id(row): number for number, row in enumerate(group.rows)}
    weighted = [row for row in group.rows if id(row) in found]
    weighted.sort(key=lambda row: (place[id(found[id(row)].base)], -found[id(row)].mean))
    rows, note = shown(weighted, lambda row: True)
    if not rows:
        return None
    marks = [(kind(row), _mark(found[id(row)])) for row in rows]
    series = tuple(Series(name, tuple(mark if own == name else None for own, mark in marks), 0.0) for name in kinds(group))
    axis = Axis(f"{plain(found[id(rows[0])].column.heading)}: difference to the method unweighted, right of 0 is better")
    about = _about([found[id(row)] for row in weighted])
    return DotPlot("effects", "What each weighting changes", plain(group.title), about, axis, names(rows), series,
                   line="unweighted", note=note)  # fmt: skip


def _mark(difference: Difference) -> Mark:
    half = difference.half if math.isfinite(difference.half) else 0.0
    return Mark(difference.mean, difference.mean - half, difference.mean + half)


def _about(found: Sequence[Difference]) -> str:
    told = [plain(difference.row.name) for difference in found if difference.shown]
    return (
        "Mean differences over seeds, each paired with its method of the same seed; bars are their 95 % intervals, each by "
        f"itself. Shown with {count(len(found), 'comparison')} counted: {', '.join(told) or 'none'}."
    )
