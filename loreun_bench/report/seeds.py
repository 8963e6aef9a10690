"""Every seed of every row by itself: what a statistician, or a plotting library, starts from."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loreun_bench.errors import UserError
from loreun_bench.harness.records import Record, load_records
from loreun_bench.report import table
from loreun_bench.report.group import Group
from loreun_bench.report.leaderboard import as_csv, check, decimals, flipped, heading, number
from loreun_bench.report.rows import Column, Row, Seeds, seeds_of
from loreun_bench.report.runs import labelled
from loreun_bench.report.text import commands, grid, name, widest, wrapped

if TYPE_CHECKING:
    from pandas import DataFrame


def load_frame(*runs: str | Path) -> DataFrame:
    """A pandas DataFrame of run folders, one line a cell, finished or not: what `leaderboard --per-seed --format csv` has.

    Its columns are the run's name, what was compared, method, weighting, a `seed_…` for each seed, status and reason, every
    metric by its key, derived ones (such as `tow`) included, NaN where one says nothing or was not measured, and the
    costs. UserError if a folder has no records, or pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise UserError("load_frame needs pandas: pip install pandas") from None
    return pandas.DataFrame(flat(table.build([(label, load_records(run)) for label, run in labelled(runs)])))


def flat(groups: Iterable[Group]) -> list[dict[str, Any]]:
    """One dictionary a record, in the order of the tables."""
    return [_flat(group, row, record) for group in groups for row in group.rows for record in row.records]


def render(
    groups: Sequence[Group], style: str = "text", ua: str = "loreun", shown: Sequence[str] | None = None, *,
    width: int | None = None,
) -> str:  # fmt: skip
    """One line a cell, in one of the leaderboard's formats; CSV and JSON hold every metric and cost in full precision.

    ua, shown: as for the leaderboard. width: columns of the terminal, after which those on the right are left out.
    """
    check(style, ua)
    if style == "json":
        return json.dumps(flat(groups), indent=1) + "\n"
    if style == "csv":
        return as_csv(flat(groups))
    parts = [_table(group, style, ua, group.choose(shown), width if style == "text" else None) for group in groups]
    return "\n\n".join(parts) + "\n"


def _flat(group: Group, row: Row, record: Record) -> dict[str, Any]:
    seeds = seeds_of(record)
    silent = dict.fromkeys(record.uninformative)
    derived = {key: number(values[seeds]) for key, values in row.values.items() if seeds in values}
    about = {
        "run": row.run, "track": group.track, "dataset": group.dataset, "model": group.model, "scenario": group.scenario,
        "protocol": group.protocol, "method": row.method, "weighting": row.weighting,
        **{f"seed_{key}": value for key, value in seeds}, "status": record.status, "reason": record.reason,
    }  # fmt: skip
    numbers = {key: number(value) for key, value in (record.metrics | record.cost).items()} | derived | silent
    return about | {key: value for key, value in numbers.items() if key not in about}


def _table(group: Group, style: str, ua: str, shown: Sequence[Column], width: int | None) -> str:
    kept = list(shown)
    while widest(text := _grid(group, style, ua, kept, width is not None)) > (width or math.inf):
        if len(kept) == 1:
            break
        kept.pop()
    title = wrapped(name(group.title, style), width)
    return f"{({'md': '### ', 'latex': '% '}).get(style, '')}{title}\n\n{text}"


def _grid(group: Group, style: str, ua: str, shown: Sequence[Column], narrow: bool) -> str:
    several = len({row.run for row in group.rows}) > 1
    head = [*(["run"] if several else []), "method", "weighting", "seed"]
    values = [name(heading(column, ua, group.track), style) for column in shown]
    body = []
    for row, line in lines(group, ua, shown):
        words = [*([row.run] if several else []), row.method, row.weighting]
        body.append([*(name(word, style, narrow) for word in words), *line])
    text = grid(body, [*head, *values, "RTE"], style, left=len(head), narrow=narrow)
    return commands(text) if style == "latex" else text


def lines(group: Group, ua: str, shown: Sequence[Column]) -> Iterator[tuple[Row, list[str]]]:
    """Every seed of every row in words: which, the value of each column, and the time, or what became of the cell."""
    places = {column.key: decimals(column, group.rows, group.track) for column in shown}
    for row in group.rows:
        for record in row.records:
            cells = [_text(c, row, record, places[c.key], flipped(c, ua, group.track)) for c in shown]
            time = f"{record.cost['rte_s']:.3g} s" if "rte_s" in record.cost else record.status
            yield row, [_seed(seeds_of(record)), *cells, time]


def _seed(seeds: Seeds) -> str:
    values = {value for _, value in seeds}
    return str(values.pop()) if len(values) == 1 else " ".join(f"{key} {value}" for key, value in seeds)


def _text(column: Column, row: Row, record: Record, digits: int, flip: bool) -> str:
    """The value, marked where it says nothing."""
    values = row.values[column.key] if column.derived else {seeds_of(record): record.metrics.get(column.key, math.nan)}
    found = values.get(seeds_of(record), math.nan)
    if not math.isfinite(found):
        return "-"
    return f"{100 - found if flip else found:.{digits}f}{' ?' * (column.key in record.uninformative)}"
