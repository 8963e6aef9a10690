"""Rows of a run beside one another, cells of two runs, and a run beside the paper: differences with their statistics."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from loreun_bench.errors import UserError, did_you_mean
from loreun_bench.report import verdict
from loreun_bench.report.cells import RTE
from loreun_bench.report.group import Group
from loreun_bench.report.leaderboard import as_csv, number
from loreun_bench.report.rows import REFERENCES, Column, Row, named
from loreun_bench.report.statistics.estimate import LEAST
from loreun_bench.report.statistics.found import Difference
from loreun_bench.report.statistics.scores import Scores
from loreun_bench.report.statistics.standing import differences
from loreun_bench.report.table import differences as conditions_apart
from loreun_bench.report.text import count, grid, line, name, plain, wrapped

HEADS = ("row", "against", "by", "difference", "±95 %", "p", "shown", "can show")


@dataclass(frozen=True)
class Block:
    """Differences of one kind in one table. p-values are corrected within it."""

    group: Group
    title: str
    found: Sequence[Difference]
    said: str = ""


def within(group: Group, base: str | None = None, column: str | None = None) -> list[Block]:
    """Of a run's rows: to `base`, as "RL" or "RL/w_f"; by default to the same method unweighted, and to the leader.

    column: the key to compare by, by default those that rank the table. UserError if the base is none of the rows.
    """
    if not group.standings or not group.standings[0].columns:
        return [Block(group, "to one another", ())]
    if base is None and column is None:
        return [
            Block(group, title, found)
            for standing in group.standings
            for title, found in (("to the unweighted method", standing.unweighted), ("to the first row", standing.leader))
        ]
    columns = _columns(group, column)
    scores = Scores(_ranked(group), columns, group)
    if base is None:
        bases = [(row, group.row(row.method, row.run)) for row in scores.rows if row.weighting != "none"]
        pairs = [(row, own) for row, own in bases if own is not None and own in scores]
        return [Block(group, "to the unweighted method", _tested(scores, pairs))]
    rows = {row.records[0].row: row for row in group.rows}
    if base not in rows:
        raise UserError(f"--base {base}: {did_you_mean(base, rows)}")
    against = rows[base]
    scores = Scores([*(row for row in _ranked(group) if row is not against), against], columns, group)
    if against not in scores:
        raise UserError(f"--base {base}: it has no {' and '.join(c.heading for c in columns)} in every seed")
    pairs = [(row, against) for row in scores.rows if row is not against]
    return [Block(group, f"to {against.name}", _tested(scores, pairs))]


def across(groups: Sequence[Group], one: str, other: str, column: str | None = None) -> list[Block]:
    """Of each table that two runs share, the cells of the second to those of the first. UserError if they share none."""
    both = [group for group in groups if {one, other} <= {row.run for row in group.rows}]
    if not both:
        raise UserError(f"{one} and {other} have no table in common: {incomparable(groups, one, other)}")
    return [between(group, one, other, column) for group in both]


def between(group: Group, one: str, other: str, column: str | None = None) -> Block:
    """Of each row of run `other` to the same row of run `one`, by seeds. UserError if they have no seed in common."""
    if group.apart:
        raise UserError(f"{plain(group.title)}: they cannot be paired")
    columns = _columns(group, column)
    whole = {(row.run, row.name): row for row in group.rows if row.complete}
    pairs = [(row, whole[one, name]) for (run, name), row in whole.items() if run == other and (one, name) in whole]
    scores = Scores([row for pair in pairs for row in pair], columns, group)
    found = _tested(scores, [(row, same) for row, same in pairs if row in scores and same in scores])
    alike = sum(_same(row, same) for row, same in pairs)
    changed = f"{alike} of {len(pairs)} rows have the same metrics in every seed, to the last digit"
    return Block(group, f"{other} to {one}", found, f"{changed}{_environments(group, one, other)}.")


def incomparable(groups: Sequence[Group], one: str, other: str) -> str:
    """Why two runs share no table."""
    first, second = ([g for g in groups if any(r.run == run for r in g.rows)] for run in (one, other))
    names = {id(g): f"{g.dataset} {g.model} {g.scenario} protocol {g.protocol}" for g in groups}
    for a, b in itertools.product(first, second):
        if names[id(a)] == names[id(b)]:
            words = conditions_apart([a.conditions | a.limits, b.conditions | b.limits])
            return plain(f"of {a.scenario}, {one} has {words[0]}, and {other} {words[1]}")
    each = [", ".join(dict.fromkeys(names[id(g)] for g in own)) for own in (first, second)]
    return plain(f"{one} is of {each[0]}, and {other} of {each[1]}")


def render(blocks: Sequence[Block], style: str = "text", width: int | None = None) -> str:
    """The blocks, one table each under its table's title and verdict. style: one of the leaderboard's formats but LaTeX."""
    if style == "latex":
        raise UserError("compare has no LaTeX: --format md or csv")
    if style in ("csv", "json"):
        rows = [_flat(block, d) for block in blocks for d in block.found]
        return json.dumps(rows, indent=1) + "\n" if style == "json" else as_csv(rows)
    parts, titled = [], set[int]()
    for block in blocks:
        if id(block.group) not in titled:
            titled.add(id(block.group))
            said = [block.group.title, *([] if block.said else verdict.sentences(block.group))]
            parts += [wrapped(name(each, style), width if style == "text" else None) for each in said]
        parts += [wrapped(name(block.said, style), width if style == "text" else None)] * bool(block.said)
        above = line(f"{block.title}:" if block.found else _nothing(block), style)
        parts.append(f"{above}\n{_grid(block, style, width)}" if block.found else above)
    notes = (
        "difference: mean over seeds, paired; above 0 is better, whatever the column. p: Student's t, corrected for all "
        "comparisons of its table (Holm). can show: the difference that one such comparison detects with 80 % power."
    )
    return "\n\n".join([*parts, wrapped(notes, width if style == "text" else None)]) + "\n"


def _columns(group: Group, column: str | None) -> Sequence[Column]:
    """The column of a key, or those that rank the table."""
    if column is None:
        return group.standings[0].columns if group.standings else ()
    return named([*group.columns, RTE], [RTE.key if column == "rte" else column])


def _tested(scores: Scores, pairs: Sequence[tuple[Row, Row]]) -> list[Difference]:
    return differences(scores, pairs) if pairs and len(scores.seeds) >= LEAST else []


def _ranked(group: Group) -> list[Row]:
    return [row for row in group.rows if row.method not in REFERENCES and row.complete and row.independent]


def _nothing(block: Block) -> str:
    seeds = max((len(row.finished) for row in block.group.rows), default=0)
    few = f", and {count(seeds, 'seed')} would be too few ({LEAST})" if seeds < LEAST else ""
    return f"{block.title}: nothing to compare{few}."


def _same(row: Row, other: Row) -> bool:
    """Whether what both have measured is the same."""
    pairs = [(record.metrics, other.by_seeds[seeds].metrics) for seeds, record in row.by_seeds.items()]
    return all(own[key] == its[key] for own, its in pairs for key in own.keys() & its.keys())


def _environments(group: Group, one: str, other: str) -> str:
    """What the two runs ran on, where it differs."""
    found: list[dict[str, set[str]]] = []
    for run in (one, other):
        told: dict[str, set[str]] = {}
        for record in (r for row in group.rows if row.run == run for r in row.finished):
            for key, value in record.environment.items():
                told.setdefault(key, set()).add(str(value))
        found.append(told)
    keys = [key for key in dict.fromkeys([*found[0], *found[1]]) if found[0].get(key) != found[1].get(key)]
    each = [f"{key} {_words(found[0].get(key))} and {_words(found[1].get(key))}" for key in keys]
    return f"; they ran with {', '.join(each)}" if each else ""


def _words(values: set[str] | None) -> str:
    return "/".join(sorted(values)) if values else "nothing"


def _grid(block: Block, style: str, width: int | None) -> str:
    several = len({d.column.key for d in block.found}) > 1
    one = len({id(d.base) for d in block.found}) == 1 or all(d.row.name == d.base.name for d in block.found)
    keep = [True, not one, several, *[True] * 5]
    body = [[cell for cell, kept in zip(_cells(d, block.group, style), keep, strict=True) if kept] for d in block.found]
    head = [cell for cell, kept in zip(HEADS, keep, strict=True) if kept]
    return grid(body, head, style, left=sum(keep[:3]), narrow=width is not None)


def _cells(difference: Difference, group: Group, style: str) -> list[str]:
    places = group.places(difference.column)
    values = [f"{value:{sign}.{places}f}" if math.isfinite(value) else "-" for value, sign in (
        (difference.mean, "+"), (difference.half, ""), (difference.least, ""),
    )]  # fmt: skip
    p = "-" if math.isnan(difference.p) else f"{difference.p:.3f}" if difference.p >= 0.001 else "<0.001"
    way = "yes" if difference.shown else "-"
    row, base = (name(each.name, style) for each in (difference.row, difference.base))
    return [row, base, name(difference.column.heading, style), *values[:2], p, way, values[2]]


def _flat(block: Block, difference: Difference) -> dict[str, Any]:
    group, row, base = block.group, difference.row, difference.base
    return {
        "track": group.track, "dataset": group.dataset, "model": group.model, "scenario": group.scenario,
        "protocol": group.protocol, "run": row.run, "method": row.method, "weighting": row.weighting, "base_run": base.run,
        "base_method": base.method, "base_weighting": base.weighting, "column": difference.column.key,
        "difference": number(difference.mean), "difference_ci95": number(difference.half), "p": number(difference.p),
        "shown": difference.shown, "can_show": number(difference.least),
    }  # fmt: skip
