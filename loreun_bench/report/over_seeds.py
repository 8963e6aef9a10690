"""The table of metrics over seeds: one value a row, held against what retraining alone shows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from loreun_bench.report.group import Group
from loreun_bench.report.rows import Column, Row
from loreun_bench.report.text import commands, count, grid, line, name, plain, widest, wrapped

NULL = "Retrain"  # in halves, one against the other


def parts(group: Group, shown: Sequence[Column], style: str, width: int | None) -> list[str]:
    """What stands below a group's table: a title line, the table of its metrics over seeds, and how to read it; [] if it has
    none. width: columns that the text is to fit, for which the last of the table are left out."""
    rows = held(group)
    if not shown or not rows:
        return []
    kept = list(shown)
    while widest(table := _grid(group, rows, kept, style, width is not None)) > (width or math.inf) and len(kept) > 1:
        kept.pop()
    said, left_out = caption(group), [plain(c.key) for c in shown[len(kept) :]]
    said += f" --wide: {', '.join(left_out)}." if left_out else ""
    said = line(said, style)
    return [wrapped(f"% {said}" if style == "latex" else said, width), table]


def held(group: Group) -> list[Row]:
    """The rows with a cell over seeds, run by run."""
    return sorted((row for row in group.rows if row.over is not None), key=lambda row: row.run)


def caption(group: Group) -> str:
    """How the table is read, in one line."""
    models = {row.run: row.over.models for row in held(group) if row.over is not None}
    each = ", ".join(f"{count(n, 'seed')} of {plain(run)}" for run, n in models.items())
    alike = len(set(models.values())) == 1
    seeds = count(next(iter(models.values())), "seed") if alike else f"{each} (of unlike numbers, not comparable)"
    return f"Over {seeds}, one split. Retrain: the range of 39 values between retrained models; = within it."


def lines(group: Group, shown: Sequence[Column]) -> Iterator[tuple[Row, list[tuple[float, float] | None] | None]]:
    """Every row, and before the first of each run the same row with its run's ranges of retraining, one a column."""
    before = None
    for row in held(group):
        if row.run != before:
            own = [other for other in held(group) if other.run == row.run]
            yield row, [next((r.cells[c.key].null for r in own if r.cells[c.key].null), None) for c in shown]
        before = row.run
        yield row, None


def span(null: tuple[float, float] | None, column: Column) -> str:
    """A range of retraining in words."""
    digits = places(column, null)
    return "-" if null is None else f"{null[0]:.{digits}f} to {null[1]:.{digits}f}"


def places(column: Column, null: tuple[float, float] | None) -> int:
    """Digits after the point: so many that a value at an end of the range is on the side of it where it seems to be."""
    usual = 1 if column.unit == "%" else 2
    width = null[1] - null[0] if null else 0.0
    return usual if width <= 0 else max(usual, min(4, math.ceil(-math.log10(width)) + 1))


def _grid(group: Group, rows: Sequence[Row], shown: Sequence[Column], style: str, narrow: bool) -> str:
    several = len({row.run for row in rows}) > 1
    body = []
    for row, null in lines(group, shown):
        words = [row.run, *((NULL, "") if null is not None else (row.method, row.rule))][not several :]
        cells = [_text(row, c) for c in shown] if null is None else [span(n, c) for n, c in zip(null, shown, strict=True)]
        body.append([*(name(word, style, narrow) for word in words), *cells])
    head = ["run", "method", "weighting"][not several :]
    table = grid(body, [*head, *(name(c.heading, style) for c in shown)], style, left=len(head), narrow=narrow)
    return commands(table) if style == "latex" else table


def _text(row: Row, column: Column) -> str:
    cell = row.cells[column.key]
    digits = places(column, cell.null)
    if not math.isfinite(cell.value.mean):
        return "-"
    return f"{cell.value.mean:.{digits}f}{cell.value.spread(digits)}{' =' * cell.as_retrained}"
