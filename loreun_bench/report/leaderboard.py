"""The leaderboard in text, Markdown, LaTeX, CSV and JSON, with the definitions of its columns below it."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from loreun_bench.errors import UserError, did_you_mean
from loreun_bench.report.layout import layout
from loreun_bench.report.notes import definitions
from loreun_bench.report.table import REFERENCES, Cell, Column, Group, Row

FORMATS = ("text", "md", "latex", "csv", "json")
STYLES = {"text": "simple", "md": "pipe", "latex": "latex_booktabs"}


def render(groups: Sequence[Group], style: str = "text", ua: str = "loreun", shown: Sequence[str] | None = None) -> str:
    """The leaderboard of `groups`.

    style: one of FORMATS; CSV and JSON hold every metric in full precision. ua: "loreun" prints forget accuracy as UA,
    "salun" 100 - forget accuracy. shown: keys of the columns for people, by default the track's usual ones.
    """
    check(style, ua)
    if style in ("csv", "json"):
        rows = [_flat(group, row) for group in groups for row in group.rows]
        return json.dumps(rows, indent=1) + "\n" if style == "json" else as_csv(rows)
    parts = [_table(group, style, ua, group.choose(shown)) for group in groups]
    tracks = [[group for group in groups if group.track == track] for track in dict.fromkeys(g.track for g in groups)]
    notes = [definitions(own[0].track, _columns(own, shown), ua, own) for own in tracks]
    return "\n\n".join([*parts, footer(notes, style)]) + "\n"


def check(style: str, ua: str) -> None:
    """UserError for a format or a reading of UA that there is not."""
    if style not in FORMATS:
        raise UserError(f"unknown format '{style}'; {did_you_mean(style, FORMATS)}")
    if ua not in ("loreun", "salun"):
        raise UserError(f"unknown --ua '{ua}'; {did_you_mean(ua, ('loreun', 'salun'))}")


def _columns(groups: Sequence[Group], shown: Sequence[str] | None) -> list[Column]:
    """The columns that any of the groups shows, in the track's order if none are asked for."""
    every = {column.key: column for group in groups for column in group.choose(shown)}
    usual = layout(groups[0].track).shown
    order = every if shown is not None else sorted(every, key=lambda key: usual.index(key) if key in usual else len(usual))
    return [every[key] for key in order]


def footer(notes: Sequence[str], style: str) -> str:
    """Notes as they stand under a table, in LaTeX as comments."""
    comment = "% " if style == "latex" else ""
    return "\n".join(f"{comment}{line}" if line else line for note in notes for line in note.split("\n"))


def _table(group: Group, style: str, ua: str, shown: Sequence[Column]) -> str:
    several = len({row.run for row in group.rows}) > 1
    places = {column.key: decimals(column, group.rows, group.track) for column in shown}
    head = [*(["run"] if several else []), "method", "weighting", *(heading(c, ua, group.track) for c in shown), "RTE", "n"]
    body = [
        [*([row.run] if several else []), row.method, "" if row.method in REFERENCES else row.weighting]
        + [_text(column, row, ua, style, places[column.key], group.track) for column in shown]
        + [_time(row), f"{len(row.finished)}/{len(row.records)}" + (" †" if row.over else "")]
        for row in group.rows
    ]
    if style == "md":
        body = [[cell.replace("|", "\\|") for cell in line] for line in body]
    align = ["left"] * (len(head) - len(shown) - 2) + ["right"] * (len(shown) + 2)
    table = tabulate(body, head, tablefmt=STYLES[style], disable_numparse=True, colalign=align)
    if style == "latex":  # tabulate escapes what we set in bold
        table = unescape(table)
    failed = failures(group)
    title = {"text": group.title, "md": f"### {group.title}", "latex": f"% {group.title}"}[style]
    return "\n\n".join([title, table, *([failed] if failed else [])])


def _text(column: Column, row: Row, ua: str, style: str, digits: int, track: str) -> str:
    """`value ±half (gap)`, marked if it is the best."""
    cell = row.cells[column.key]
    if not math.isfinite(cell.value.mean):
        return "-"
    flip = flipped(column, ua, track)
    mean = 100 - cell.value.mean if flip else cell.value.mean
    text = f"{mean:.{digits}f}"
    text += cell.value.spread(digits, flip)
    if cell.gap is not None and row.method != "Retrain":
        text += f" ({-cell.gap if flip else cell.gap:+.{digits}f})"
    return bold(text, style) if column.key in row.best else text


def bold(text: str, style: str) -> str:
    """The best of a column; LaTeX's command is put in by `unescape`, after tabulate has escaped the cell."""
    return {"text": f"*{text}", "md": f"**{text}**", "latex": f"BOLDOPEN{text}BOLDCLOSE"}[style]


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


def unescape(table: str) -> str:
    """LaTeX's commands for what tabulate would have escaped."""
    marks = {"BOLDOPEN": r"\textbf{", "BOLDCLOSE": "}", "±": r"$\pm$", "†": r"$\dagger$", "×": r"$\times$"}
    marks |= {"↓": r"$\downarrow$", "↑": r"$\uparrow$"}
    for mark, command in marks.items():
        table = table.replace(mark, command)
    return table


def _time(row: Row) -> str:
    if not math.isfinite(row.seconds.mean):
        return "-"
    ratio = f" ×{row.ratio:.2f}" if math.isfinite(row.ratio) and row.method not in REFERENCES else ""
    return f"{row.seconds.mean:.3g} s{ratio}"


def failures(group: Group) -> str:
    """A line for every seed that did not finish."""
    bad = [record for row in group.rows for record in row.records if record.status != "ok"]
    return "\n".join(f"failed: {r.method} {r.weighting}, seed {r.seeds['unlearn']}: {r.status}, {r.reason}" for r in bad)


def number(value: float | None) -> float | None:
    """The value, or None where JSON has no number for it."""
    return value if value is not None and math.isfinite(value) else None


def _flat(group: Group, row: Row) -> dict[str, Any]:
    """A row with every metric: mean, half-width of the interval, gap."""

    def spread(key: str, cell: Cell) -> dict[str, float | None]:
        return {key: number(cell.value.mean), f"{key}_ci95": number(cell.value.half), f"{key}_gap": number(cell.gap)}

    values: dict[str, Any] = {
        "run": row.run, "track": group.track, "dataset": group.dataset, "model": group.model,
        "scenario": group.scenario, "protocol": group.protocol, "method": row.method, "weighting": row.weighting,
        "n_ok": len(row.finished), "n": len(row.records), "over_unlearned": row.over,
    }  # fmt: skip
    for key, cell in row.cells.items():
        values |= spread(key, cell)
        if cell.value.exact is not None:
            values |= {f"{key}_low": cell.value.exact[0], f"{key}_high": cell.value.exact[1]}
    return values | {"rte_s": number(row.seconds.mean), "rte_ratio": number(row.ratio)}


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """The rows under all their names."""
    out = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
