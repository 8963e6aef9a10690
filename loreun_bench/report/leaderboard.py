"""The leaderboard in text, Markdown, LaTeX, CSV and JSON, with the definitions of its columns below it."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from loreun_bench.errors import UserError, did_you_mean
from loreun_bench.harness.records import Record
from loreun_bench.names import as_cell
from loreun_bench.report import latex, over_seeds, verdict
from loreun_bench.report.group import Group
from loreun_bench.report.layout import layout
from loreun_bench.report.marks import MARKS, symbols
from loreun_bench.report.notes import brief, definitions
from loreun_bench.report.rows import REFERENCES, Cell, Column, Row
from loreun_bench.report.statistics.estimate import Estimate
from loreun_bench.report.text import bold, commands, grid, line, name, plain, sentence, widest, wrapped

FORMATS = ("text", "md", "latex", "csv", "json")


@dataclass(frozen=True)
class Look:
    """How a table is printed: its format, the reading of UA, whether cells are one number each, for want of room: the
    difference to Retrain where that is the aim, else the value."""

    style: str
    ua: str
    bare: bool = False


@dataclass(frozen=True)
class Words:
    """A cell in words, each of which may be "": its value ("-" for none), interval, difference to Retrain, and its mark."""

    value: str
    spread: str
    gap: str
    mark: str


def render(
    groups: Sequence[Group], style: str = "text", ua: str = "loreun", shown: Sequence[str] | None = None, *,
    width: int | None = None, notes: bool = True,
) -> str:  # fmt: skip
    """The leaderboard of `groups`.

    style: one of FORMATS; CSV and JSON hold every metric in full precision. ua: "loreun" prints forget accuracy as UA,
    "salun" 100 - forget accuracy. shown: keys of the columns for people, by default the track's usual ones. width: columns
    of the terminal that text is to fit. notes: False leaves the definitions out.
    """
    check(style, ua)
    if style in ("csv", "json"):
        rows = flat(groups)
        return json.dumps(rows, indent=1) + "\n" if style == "json" else as_csv(rows)
    width = width if style == "text" else None
    parts = [_table(group, Look(style, ua), shown, width, number) for number, group in enumerate(groups)]
    tracks = [[group for group in groups if group.track == track] for track in dict.fromkeys(g.track for g in groups)]
    if notes:
        said = [definitions(own[0].track, chosen(own, shown), ua, own) for own in tracks]
    else:
        said = [brief(own, chosen(own, shown)) for own in tracks]
    return "\n\n".join([*parts, wrapped(footer(said, style), width)]) + "\n"


def check(style: str, ua: str) -> None:
    """UserError for a format or a reading of UA that there is not."""
    if style not in FORMATS:
        raise UserError(f"unknown format '{style}'; {did_you_mean(style, FORMATS)}")
    if ua not in ("loreun", "salun"):
        raise UserError(f"unknown --ua '{ua}'; {did_you_mean(ua, ('loreun', 'salun'))}")


def chosen(groups: Sequence[Group], shown: Sequence[str] | None = None) -> list[Column]:
    """The columns that any of the groups shows, in the track's order if none are asked for."""
    every = {column.key: column for group in groups for own in parted(group, shown) for column in own}
    usual = layout(groups[0].track).shown
    order = every if shown is not None else sorted(every, key=lambda key: usual.index(key) if key in usual else len(usual))
    return [every[key] for key in order]


def parted(group: Group, shown: Sequence[str] | None = None) -> tuple[list[Column], list[Column]]:
    """The columns of the group's table, and of that over seeds."""
    every = group.choose(shown)
    over = group.over_seeds if shown is None else [column for column in every if column.over_seeds]
    return [column for column in every if not column.over_seeds], over


def footer(notes: Sequence[str], style: str) -> str:
    """Notes as they stand under a table, in LaTeX as comments."""
    comment = "% " if style == "latex" else ""
    lines = [line(each, style) for note in notes for each in note.split("\n")]
    return "\n".join(f"{comment}{each}" if each else each for each in lines)


def _table(group: Group, look: Look, keys: Sequence[str] | None, width: int | None, number: int) -> str:
    """A group's title, verdict, table and what is said of it. Too wide a table has one number a cell, and then loses its
    last columns, but for those that rank."""
    shown, over = parted(group, keys)
    table, room = _grid(group, look, shown), width or 10**9
    left_out: list[str] = []
    said = failures(group)
    if widest(table) > room:
        look, kept = Look(look.style, look.ua, bare=True), list(shown)
        ranking = {column.key for standing in group.standings for column in standing.columns}
        while widest(table := _grid(group, look, kept)) > room and len(kept) > 1:
            out = next((column for column in reversed(kept) if column.key not in ranking), kept[-1])
            kept.remove(out)
            left_out.insert(0, out.key)
        said.insert(0, _bare(group, [column for column in shown if column.key not in left_out], left_out))
    table = latex.table(table, group, number) if look.style == "latex" else table
    title = sentence(group.title, look.style)
    title = {"text": wrapped(title, width), "md": f"### {title}", "latex": f"% {title}"}[look.style]
    above = wrapped(footer([sentence(each, look.style) for each in verdict.sentences(group)], look.style), width)
    below = wrapped(footer(["\n".join(said)], look.style), width)
    return "\n\n".join([title, above, table, *([below] if said else []), *over_seeds.parts(group, over, look.style, width)])


def _bare(group: Group, kept: Sequence[Column], left_out: Sequence[str]) -> str:
    """What a table that has one number a cell shows, and what it does not."""
    gaps = [c.heading for c in kept if any(row.cells[c.key].gap is not None for row in group.rows)]
    shown = f"{', '.join(map(plain, gaps))}: differences to Retrain, whose own row shows values. " if gaps else ""
    return f"{shown}--wide adds intervals{''.join(f', {plain(key)}' for key in left_out)}."


def _grid(group: Group, look: Look, shown: Sequence[Column]) -> str:
    several = len({row.run for row in group.rows}) > 1
    places = {column.key: decimals(column, group.rows, group.track) for column in shown}
    head = [*(["run"] if several else []), "method", "weighting", "rank"]
    n = not look.bare or not all(row.complete for row in group.rows)
    head += [*(name(heading(column, look.ua, group.track), look.style) for column in shown), "RTE", "n" * n]
    rows = latex.together(group.rows) if look.style == "latex" else group.rows
    named = latex.begins(rows) if look.style == "latex" else [True] * len(rows)
    body = [
        [name(text, look.style, look.bare) for text in (*[row.run * first] * several, row.method * first, row.rule)]
        + [rank(row, group)]
        + [_text(column, row, look, places[column.key], group.track) for column in shown]
        + [seconds(row, look.bare), f"{f'{len(row.finished)}/{row.expected} ' * n}{symbols(row)}".rstrip()]
        for row, first in zip(rows, named, strict=True)
    ]
    table = grid(body, head, look.style, left=len(head) - len(shown) - 2, narrow=look.bare)
    return latex.spaced(commands(table), rows) if look.style == "latex" else table


def rank(row: Row, group: Group) -> str:
    """The places that the seeds leave a row."""
    found = [standing.ranks[id(row)] for standing in group.standings if id(row) in standing.ranks]
    return "-".join(map(str, dict.fromkeys(found[0]))) if found else ""


def words(column: Column, row: Row, ua: str, digits: int, track: str) -> Words:
    """What is said in a row's cell. ? is of one that says nothing, ° of one that lacks something."""
    cell, flip = row.cells[column.key], flipped(column, ua, track)
    text = value(cell.value, digits, flip, bare=True)
    if cell.uninformative:
        return Words(text, "", "", "?")
    there = cell.gap is not None and math.isfinite(cell.gap) and row.method != "Retrain"
    gap = f"{-cell.gap if flip else cell.gap:+.{digits}f}" if there and cell.gap is not None else ""
    spread = cell.value.spread(digits, flip) if text != "-" else ""
    return Words(text, spread, gap, "°" if cell.lacks and text != "-" else "")


def _text(column: Column, row: Row, look: Look, digits: int, track: str) -> str:
    """`value ±half (gap)`, marked if it is the best, or says nothing."""
    said = words(column, row, look.ua, digits, track)
    mark = f" {said.mark}" if said.mark else ""
    if look.bare:
        text = (said.gap or said.value) + mark
    else:
        text = said.value + said.spread + mark + (f" ({said.gap})" if said.gap else "")
    return bold(text, look.style) if column.key in row.best else text


def value(found: Estimate, digits: int, flip: bool, bare: bool = False) -> str:
    """`value ±half`, or "-" where there is none. flip: 100 minus it."""
    if not math.isfinite(found.mean):
        return "-"
    text = f"{100 - found.mean if flip else found.mean:.{digits}f}"
    return text if bare else text + found.spread(digits, flip)


def decimals(column: Column, rows: Sequence[Row], track: str) -> int:
    """How many digits after the point the column needs in these rows."""
    means = [row.cells[column.key].value.mean for row in rows]
    return layout(track).decimals(column.key, column.unit, [mean for mean in means if math.isfinite(mean)])


def flipped(column: Column, ua: str, track: str) -> bool:
    """Whether 100 minus the value is printed."""
    return ua == "salun" and column.key == layout(track).ua


def heading(column: Column, ua: str, track: str) -> str:
    """The column's heading; where nothing is retrained, with an arrow in the direction that is better."""
    flip = flipped(column, ua, track)
    text = "UA (100-FA)" if flip else column.heading
    if layout(track).retrain or column.best not in ("low", "high") or text[-1:] in "↓↑":
        return text
    return f"{text} {'↓' if (column.best == 'low') != flip else '↑'}"


def seconds(row: Row, bare: bool = False) -> str:
    """The row's RTE and, unless bare, its ratio to the method unweighted."""
    if not math.isfinite(row.seconds.mean):
        return "-"
    ratio = f" ×{row.ratio:.2f}" if math.isfinite(row.ratio) and row.method not in REFERENCES and not bare else ""
    return f"{row.seconds.mean:.3g} s{ratio}"


def cells_of(row: Row) -> list[Record]:
    """The records of a row: those of its seeds, and the one over all of them."""
    return [*row.records, *([row.over] if row.over is not None else [])]


def failures(group: Group) -> list[str]:
    """A line for every seed that did not finish."""
    bad = [record for row in group.rows for record in cells_of(row) if record.status != "ok"]
    seeds = [r.seeds.get("unlearn", "?") if r.seeds else "all" for r in bad]
    return [
        plain(f"failed: {r.method} {r.weighting}, seed {seed}: {r.status}, {r.reason}")
        for r, seed in zip(bad, seeds, strict=True)
    ]


def number(value: float | None) -> float | None:
    """The value, or None where JSON has no number for it."""
    return value if value is not None and math.isfinite(value) else None


def spread(key: str, found: Estimate) -> dict[str, float | None]:
    """A value with the ends of its interval, and the half-width of the one over seeds, in full precision."""
    low, high = found.interval or (None, None)
    return {key: number(found.mean), f"{key}_ci95": number(found.half), f"{key}_low": low, f"{key}_high": high}


def flat(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """A dictionary a row, in the order of the tables: every metric's mean, interval and gap, and what is said of the row."""
    return [_flat(group, row) for group in groups for row in group.rows]


def _flat(group: Group, row: Row) -> dict[str, Any]:
    values: dict[str, Any] = {
        "run": row.run, "track": group.track, "dataset": group.dataset, "model": group.model,
        "scenario": group.scenario, "protocol": group.protocol, "method": row.method, "weighting": row.weighting,
        "n_ok": len(row.finished), "n": row.expected, "over_unlearned": "over" in row.marks,
    }  # fmt: skip
    values |= {mark: mark in row.marks for mark in MARKS if mark != "over"}
    values["uninformative"] = " ".join(sorted(row.uninformative))
    for key, cell in row.cells.items():
        values |= _values(key, cell)
    return values | {"rte_s": number(row.seconds.mean), "rte_ratio": number(row.ratio)}


def _values(key: str, cell: Cell) -> dict[str, float | None]:
    low, high = cell.null or (None, None)
    null = {f"{key}_null_low": low, f"{key}_null_high": high} if cell.null else {}
    return spread(key, cell.value) | {f"{key}_gap": number(cell.gap)} | null


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """The rows under all their names, with no formula among them."""
    out = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.writer(out, lineterminator="\n")
    for values in (dict(zip(names, names, strict=True)), *rows):
        cells = (values.get(key, "") for key in names)
        writer.writerow([as_cell(plain(cell)) if isinstance(cell, str) else cell for cell in cells])
    return out.getvalue()
