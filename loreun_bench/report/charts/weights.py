"""How uneven the weights of weighted rows were while they trained."""

from __future__ import annotations

import math
from collections.abc import Sequence

from loreun_bench.report.charts.chart import XY, Axis, Mark, Trail
from loreun_bench.report.charts.rows import kind, kinds, mark, names, shown
from loreun_bench.report.group import Group
from loreun_bench.report.rows import Row
from loreun_bench.report.statistics.estimate import estimate
from loreun_bench.report.text import plain

SAMPLED = 20  # numbers, of which there are as many where epochs were more: see training/tally.py


def weights(group: Group, phase: str) -> XY | None:
    """The effective sample size of a phase, "forget" or "retain", by epoch; None where no row weights it."""
    found = {id(row): shares(row, phase) for row in group.rows}
    rows, note = shown((row for row in group.rows if found[id(row)]), lambda row: True)
    if not rows:
        return None
    whole = max(len(found[id(row)]) for row in rows) < SAMPLED
    trails = tuple(Trail(n, kind(r), _points(found[id(r)], whole)) for n, r in zip(names(rows), rows, strict=True))
    about = (
        "The effective sample size (Σw)²/Σw² as a share of the samples: 100 % is the same weight for all, 10 % is a tenth "
        "of the samples with all the weight. Means over seeds."
    )
    x = Axis("epoch" if whole else "training done (% of its epochs)", whole=whole)
    y = Axis("effective sample size (% of the samples)", shows=(90.0, 100.0))
    return XY(f"weights-{phase}", f"Weights of the {phase} set over training", plain(group.title), about, x, y,
              kinds(group), trails, None, note)  # fmt: skip


def shares(row: Row, phase: str) -> list[Mark]:
    """A row's effective sample size in percent, a mark an epoch: a mean over the seeds that have as many as the most."""
    every = [_effective(record.weights.get(phase)) for record in row.finished]
    most = max(map(len, every), default=0)
    epochs = zip(*(own for own in every if len(own) == most), strict=True)
    found = [mark(estimate([100 * share for share in epoch], (0.0, 100.0), independent=row.independent)) for epoch in epochs]
    return [each for each in found if each is not None]


def _effective(found: object) -> list[float]:
    """The shares of a record, of whatever version wrote it; [] for what is none."""
    values = found.get("effective") if isinstance(found, dict) else None
    numbers = values if isinstance(values, list) else []
    return [float(value) for value in numbers] if all(_number(value) for value in numbers) else []


def _number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _points(marks: Sequence[Mark], whole: bool) -> tuple[tuple[Mark, Mark], ...]:
    places = [float(i) if whole else 100.0 * i / len(marks) for i in range(1, len(marks) + 1)]
    return tuple((Mark(x, x, x), y) for x, y in zip(places, marks, strict=True))
