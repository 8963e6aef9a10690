"""One row a forgotten class, one block of columns a method and weighting, and the average below: LoReUn's Table 2."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tabulate import SEPARATING_LINE, tabulate

from loreun_bench.errors import UserError
from loreun_bench.report.group import Group
from loreun_bench.report.layout import layout
from loreun_bench.report.leaderboard import as_csv, check, failures, flipped, footer, heading, spread, value
from loreun_bench.report.notes import brief, definitions
from loreun_bench.report.rows import REFERENCES, Cell, Column, Row, named
from loreun_bench.report.statistics.estimate import Estimate, estimate, mean
from loreun_bench.report.table import differences
from loreun_bench.report.text import STYLES, bold, commands, escaped, name, sentence, wrapped

AVERAGE = "average"
Variant = tuple[str, str, str]  # run, method, weighting


@dataclass(frozen=True)
class Average:
    """A variant's mean over the forgotten classes. n: how many of them it has; best: the least (or highest) of all."""

    value: Estimate
    n: int
    best: bool = False


@dataclass(frozen=True)
class ByClass:
    """Groups that differ in nothing but the scenario, and what is common to them.

    rows: for each group the row of every variant that ran; average: of each variant and column. differs: what sets it apart
    from another table of the same title.
    """

    groups: Sequence[Group]
    variants: Sequence[Variant]
    columns: Sequence[Column]
    rows: Sequence[Mapping[Variant, Row]]
    average: Mapping[tuple[Variant, str], Average]
    differs: str = ""

    @property
    def track(self) -> str:
        """The track of all groups."""
        return self.groups[0].track

    def counted(self, column: Column) -> int:
        """How many of the classes any variant has a value for."""
        return sum(any(_finite(row, column) for row in rows.values()) for rows in self.rows)


def build(groups: Sequence[Group], shown: Sequence[str] | None = None) -> list[ByClass]:
    """One table for each track, data set, model and protocol among `groups` (see `table.build`).

    shown: keys of the columns, by default UA and the distances that were measured. UserError for an unknown key, or if every
    scenario forgets samples at random.
    """
    groups = [group for group in groups if not group.scenario.startswith("random")]
    if not groups:
        raise UserError("--by-class: no scenario of this run forgets a class")
    found: dict[tuple[str, ...], list[Group]] = {}
    for group in groups:
        key = (group.track, group.dataset, group.model, group.protocol, group.limits, group.conditions)
        found.setdefault(tuple(map(str, key)), []).append(group)
    tables = [_build(part, shown) for part in found.values()]
    titles = [_title(table) for table in tables]
    told = differences([table.groups[0].conditions for table in tables])
    alike = [titles.count(title) > 1 for title in titles]
    return [replace(table, differs=words) if same else table for table, words, same in zip(tables, told, alike, strict=True)]


def render(
    groups: Sequence[Group], style: str = "text", ua: str = "loreun", shown: Sequence[str] | None = None, *,
    width: int | None = None, notes: bool = True,
) -> str:  # fmt: skip
    """The tables of `groups` in one of the leaderboard's formats; CSV and JSON have one row a class and variant.

    width: columns of the terminal to which text below the tables is broken. notes: False leaves the definitions out.
    """
    check(style, ua)
    tables = build(groups, shown)
    if style in ("csv", "json"):
        rows = [row for table in tables for row in _flat(table)]
        return json.dumps(rows, indent=1) + "\n" if style == "json" else as_csv(rows)
    parts = [_table(table, style, ua) for table in tables]
    said = [
        "The last row is the mean over the rows above it; a variant that lacks some shows (rows it has/all) and is never "
        "marked best."
    ]
    for track in dict.fromkeys(table.track for table in tables):
        own = [table for table in tables if table.track == track]
        every = list({column.key: column for table in own for column in table.columns}.values())
        whole = [group for table in own for group in table.groups]
        said.append(definitions(track, every, ua, whole, timed=False) if notes else brief(whole, every))
    return "\n\n".join([*parts, wrapped(footer(said, style), width if style == "text" else None)]) + "\n"


def _build(groups: Sequence[Group], shown: Sequence[str] | None) -> ByClass:
    usual = layout(groups[0].track)
    if shown is None:
        shown = [*usual.by_class, *(key for key in usual.distances if any(group.measured(key) for group in groups))]
    columns = named(groups[0].columns, shown)  # the same in all groups of a track
    rows = [{(row.run, row.method, row.weighting): row for row in group.rows} for group in groups]
    variants = sorted({variant for found in rows for variant in found}, key=_order)
    return ByClass(groups, variants, columns, rows, _averages(rows, variants, columns))


def _order(variant: Variant) -> tuple[Any, ...]:
    """References first, then by name, each method's unweighted form before its weightings."""
    run, method, weighting = variant
    reference = REFERENCES.index(method) if method in REFERENCES else len(REFERENCES)
    return (reference, method.lower(), method, weighting != "none", weighting.count("+"), weighting, run)


def _averages(
    rows: Sequence[Mapping[Variant, Row]], variants: Sequence[Variant], columns: Sequence[Column]
) -> dict[tuple[Variant, str], Average]:
    found = {}
    for column in columns:
        whole = sum(any(_finite(row, column) for row in own.values()) for own in rows)
        means = {variant: _mean([own[variant] for own in rows if variant in own], column) for variant in variants}
        failed = {variant for own in rows for variant, row in own.items() if not row.complete}
        ranked = {
            variant: own.value.mean
            for variant, own in means.items()
            if variant[1] not in REFERENCES and variant not in failed and own.n == whole
        }
        best = (max if column.best == "high" else min)(ranked.values(), default=math.nan)
        for variant, own in means.items():
            is_best = column.best in ("low", "high") and abs(ranked.get(variant, math.nan) - best) <= 1e-9
            found[variant, column.key] = Average(own.value, own.n, is_best)
    return found


def _mean(rows: Sequence[Row], column: Column) -> Average:
    """The mean of the classes' means; its interval is over seeds, where every class has the same ones."""
    have = [row for row in rows if _finite(row, column)]
    if not have:
        return Average(estimate([]), 0)
    middle = mean([row.cells[column.key].value.mean for row in have])
    seeds = [{tuple(sorted(r.seeds.items())): r.metrics.get(column.key, math.nan) for r in row.finished} for row in have]
    alike = all(math.isfinite(row.cells[column.key].value.half) for row in have) and len({frozenset(s) for s in seeds}) == 1
    if not alike or column.derived:
        return Average(Estimate(middle, math.nan, 1, span=column.span), len(have))
    over = estimate([mean([own[seed] for own in seeds]) for seed in seeds[0]], column.span)
    return Average(Estimate(middle, over.half, over.n, span=column.span), len(have))


def _finite(row: Row, column: Column) -> bool:
    """Whether the row has a value, and one that says something."""
    cell = row.cells.get(column.key)
    return cell is not None and not cell.uninformative and math.isfinite(cell.value.mean)


def _table(table: ByClass, style: str, ua: str) -> str:
    names = [_name(variant, table) if style == "latex" else name(_name(variant, table), style) for variant in table.variants]
    heads = [heading(column, ua, table.track) for column in table.columns]
    between = {"text": "\n", "md": "<br>", "latex": ""}[style]
    head = ["forgotten", *(h if style == "latex" else f"{each}{between}{name(h, style)}" for each in names for h in heads)]
    body: list[Any] = [
        [name(_label(group), style), *_line(table, own, style, ua)]
        for group, own in zip(table.groups, table.rows, strict=True)
    ]
    last = [AVERAGE, *_last(table, style, ua)]
    lines = [*body, *([SEPARATING_LINE] if style == "text" else []), last]
    align = ["left"] + ["right"] * (len(head) - 1)
    text = tabulate(lines, head, tablefmt=STYLES[style], disable_numparse=True, colalign=align)
    if style == "latex":
        text = _spanned(commands(text), names, len(heads))
    title = {"text": "", "md": "### ", "latex": "% "}[style] + sentence(_title(table), style)
    failed = [line for group in table.groups for line in failures(group)]
    return "\n\n".join([title, text, *([footer(["\n".join(failed)], style)] if failed else [])])


def _title(table: ByClass) -> str:
    first = table.groups[0]
    title = first.title.replace(f", {first.scenario},", f", {len(table.groups)} forgotten one by one,", 1)
    return f"{title}; {table.differs}" if table.differs and table.differs not in title else title


def _label(group: Group) -> str:
    return group.scenario.removeprefix("class-")


def _name(variant: Variant, table: ByClass) -> str:
    run, method, weighting = variant
    several = len({other[0] for other in table.variants}) > 1
    return " ".join([*([run] if several else []), method, *([] if weighting == "none" else [weighting])])


def _line(table: ByClass, own: Mapping[Variant, Row], style: str, ua: str) -> list[str]:
    cells = []
    for variant in table.variants:
        for column in table.columns:
            cell = own[variant].cells.get(column.key) if variant in own else None
            text = _cell(table, column, cell, ua) if variant in own else "-"
            cells.append(bold(text, style) if variant in own and column.key in own[variant].best else text)
    return cells


def _cell(table: ByClass, column: Column, cell: Cell | None, ua: str) -> str:
    if cell is None:
        return "-"
    if cell.uninformative:
        return _number(table, column, cell.value, ua, bare=True) + " ?"
    return _number(table, column, cell.value, ua) + (" °" if cell.lacks else "")


def _last(table: ByClass, style: str, ua: str) -> list[str]:
    cells = []
    for variant in table.variants:
        for column in table.columns:
            average, whole = table.average[variant, column.key], table.counted(column)
            text = _number(table, column, average.value, ua)
            if 0 < average.n < whole:
                text += f" ({average.n}/{whole})"
            cells.append(bold(text, style) if average.best else text)
    return cells


def _number(table: ByClass, column: Column, found: Estimate, ua: str, bare: bool = False) -> str:
    every = [row.cells[column.key].value.mean for own in table.rows for row in own.values() if _finite(row, column)]
    digits = layout(table.track).decimals(column.key, column.unit, every)
    return value(found, digits, flipped(column, ua, table.track), bare)


def _spanned(table: str, names: Sequence[str], width: int) -> str:
    """The LaTeX table with a line that names the variant of each block of columns, and a rule above the averages."""
    spans = " & ".join(rf"\multicolumn{{{width}}}{{c}}{{{escaped(variant)}}}" for variant in names)
    rules = " ".join(rf"\cmidrule(lr){{{2 + width * i}-{1 + width * (i + 1)}}}" for i in range(len(names)))
    lines = table.split("\n")
    lines.insert(lines.index(r"\bottomrule") - 1, r"\midrule")
    top = lines.index(r"\toprule") + 1
    return "\n".join([*lines[:top], rf" & {spans} \\", rules, *lines[top:]])


def _flat(table: ByClass) -> list[dict[str, Any]]:
    """A row for every class and variant, and one for every variant's average, in full precision."""
    first = table.groups[0]
    common = {"track": first.track, "dataset": first.dataset, "model": first.model, "protocol": first.protocol}
    rows: list[dict[str, Any]] = []
    for group, own in zip(table.groups, table.rows, strict=True):
        for variant in (variant for variant in table.variants if variant in own):
            row = own[variant]
            counts = {"n_ok": len(row.finished), "n": row.expected}
            values = {c.key: row.cells[c.key].value for c in table.columns if c.key in row.cells}
            rows.append(_flat_row(common, group.scenario, variant, counts, values))
    for variant in table.variants:
        averages = {column.key: table.average[variant, column.key] for column in table.columns}
        counts = {f"{key}_classes": average.n for key, average in averages.items()}
        rows.append(_flat_row(common, AVERAGE, variant, counts, {key: a.value for key, a in averages.items()}))
    return rows


def _flat_row(
    common: Mapping[str, str], scenario: str, variant: Variant, counts: Mapping[str, int], values: Mapping[str, Estimate]
) -> dict[str, Any]:
    run, method, weighting = variant
    row: dict[str, Any] = {"run": run, **common, "scenario": scenario, "method": method, "weighting": weighting, **counts}
    for key, found in values.items():
        row |= spread(key, found)
    return row
