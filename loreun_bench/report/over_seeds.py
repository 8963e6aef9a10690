"""The table of metrics over seeds: one value a row, held against what retraining alone shows."""

from __future__ import annotations

import math
from collections.abc import Sequence

from loreun_bench.report.group import Group
from loreun_bench.report.rows import Column, Row
from loreun_bench.report.text import commands, count, grid, name, plain, widest, wrapped

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
    return [wrapped(f"% {said}" if style == "latex" else said, width), table]


def held(group: Group) -> list[Row]:
    """The rows with a cell over seeds."""
    return [row for row in group.rows if row.over is not None]


def caption(group: Group) -> str:
    """How the table is read, in one line."""
    seeds = count(max(len(row.finished) for row in held(group)), "seed")
    return f"Over {seeds} of one split. Retrain: where 95 % of retrainings beside retrainings come out; = as these."


def nulls(group: Group, shown: Sequence[Column]) -> list[str]:
    """The range of retraining in each column."""
    found = [next((row.cells[c.key].null for row in held(group) if row.cells[c.key].null), None) for c in shown]
    return [_range(null, places(column)) for column, null in zip(shown, found, strict=True)]


def places(column: Column) -> int:
    """Digits after the point: so few that a range has room."""
    return 1 if column.unit == "%" else 2


def _grid(group: Group, rows: Sequence[Row], shown: Sequence[Column], style: str, narrow: bool) -> str:
    body = [
        [name(text, style, narrow) for text in (row.method, "" if row.weighting == "none" else row.weighting)]
        + [_text(row, column) for column in shown]
        for row in rows
    ]
    head = ["method", "weighting", *(name(column.heading, style) for column in shown)]
    text = grid([[NULL, "", *nulls(group, shown)], *body], head, style, left=2, narrow=narrow)
    return commands(text) if style == "latex" else text


def _range(null: tuple[float, float] | None, digits: int) -> str:
    return "-" if null is None else f"{null[0]:.{digits}f} to {null[1]:.{digits}f}"


def _text(row: Row, column: Column) -> str:
    cell, digits = row.cells[column.key], places(column)
    if not math.isfinite(cell.value.mean):
        return "-"
    return f"{cell.value.mean:.{digits}f}{cell.value.spread(digits)}{' =' * cell.as_retrained}"
