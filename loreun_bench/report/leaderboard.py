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
from loreun_bench.report.table import REFERENCES, Cell, Column, Group, Row, columns

FORMATS = ("text", "md", "latex", "csv", "json")
SHOWN = ("forget_acc", "retain_acc", "test_acc", "tow", "mia_confidence", "tow_mia", "avg_gap")
_STYLES = {"text": "simple", "md": "pipe", "latex": "latex_booktabs"}


def render(groups: Sequence[Group], style: str = "text", ua: str = "loreun", shown: Sequence[str] | None = None) -> str:
    """The leaderboard of `groups`.

    style: one of FORMATS; CSV and JSON hold every metric in full precision. ua: "loreun" prints forget accuracy as UA,
    "salun" 100 - forget accuracy. shown: keys of the columns for people, by default SHOWN.
    """
    if style not in FORMATS:
        raise UserError(f"unknown format '{style}'; {did_you_mean(style, FORMATS)}")
    if ua not in ("loreun", "salun"):
        raise UserError(f"unknown --ua '{ua}'; {did_you_mean(ua, ('loreun', 'salun'))}")
    if style in ("csv", "json"):
        rows = [_flat(group, row) for group in groups for row in group.rows]
        return json.dumps(rows, indent=1) + "\n" if style == "json" else _csv(rows)
    parts = [_table(group, style, ua, columns(group.track, shown or SHOWN)) for group in groups]
    tracks = dict.fromkeys(group.track for group in groups)
    notes = [_definitions(columns(track, shown or SHOWN), ua, groups) for track in tracks]
    comment = "% " if style == "latex" else ""
    footer = "\n".join(f"{comment}{line}" if line else line for note in notes for line in note.split("\n"))
    return "\n\n".join([*parts, footer]) + "\n"


def _table(group: Group, style: str, ua: str, shown: Sequence[Column]) -> str:
    several = len({row.run for row in group.rows}) > 1
    head = [*(["run"] if several else []), "method", "weighting", *(_heading(c, ua) for c in shown), "RTE", "n"]
    body = [
        [*([row.run] if several else []), row.method, "" if row.method in REFERENCES else row.weighting]
        + [_text(column, row, ua, style) for column in shown]
        + [_time(row), f"{len(row.finished)}/{len(row.records)}" + (" †" if row.over else "")]
        for row in group.rows
    ]
    if style == "md":
        body = [[cell.replace("|", "\\|") for cell in line] for line in body]
    align = ["left"] * (len(head) - len(shown) - 2) + ["right"] * (len(shown) + 2)
    table = tabulate(body, head, tablefmt=_STYLES[style], disable_numparse=True, colalign=align)
    if style == "latex":  # tabulate escapes what we set in bold
        table = _unescape(table)
    failures = _failures(group)
    title = {"text": group.title, "md": f"### {group.title}", "latex": f"% {group.title}"}[style]
    return "\n\n".join([title, table, *([failures] if failures else [])])


def _text(column: Column, row: Row, ua: str, style: str) -> str:
    """`value ±half (gap)`, marked if it is the best."""
    cell = row.cells[column.key]
    if not math.isfinite(cell.value.mean):
        return "-"
    flip = ua == "salun" and column.key == "forget_acc"
    digits = 2 if column.unit == "%" else 4
    mean = 100 - cell.value.mean if flip else cell.value.mean
    text = f"{mean:.{digits}f}"
    if math.isfinite(cell.value.half):
        text += f" ±{cell.value.half:.{digits}f}"
    if cell.gap is not None and row.method != "Retrain":
        text += f" ({-cell.gap if flip else cell.gap:+.{digits}f})"
    if column.key not in row.best:
        return text
    return {"text": f"*{text}", "md": f"**{text}**", "latex": f"BOLDOPEN{text}BOLDCLOSE"}[style]


def _unescape(table: str) -> str:
    marks = {"BOLDOPEN": r"\textbf{", "BOLDCLOSE": "}", "±": r"$\pm$", "†": r"$\dagger$", "×": r"$\times$"}
    for mark, command in marks.items():
        table = table.replace(mark, command)
    return table


def _time(row: Row) -> str:
    if not math.isfinite(row.seconds.mean):
        return "-"
    ratio = f" ×{row.ratio:.2f}" if math.isfinite(row.ratio) and row.method not in REFERENCES else ""
    return f"{row.seconds.mean:.3g} s{ratio}"


def _heading(column: Column, ua: str) -> str:
    return "UA (100-FA)" if ua == "salun" and column.key == "forget_acc" else column.heading


def _failures(group: Group) -> str:
    bad = [record for row in group.rows for record in row.records if record.status != "ok"]
    return "\n".join(f"failed: {r.method} {r.weighting}, seed {r.seeds['unlearn']}: {r.status}, {r.reason}" for r in bad)


def _definitions(shown: Sequence[Column], ua: str, groups: Sequence[Group]) -> str:
    """One line a metric, then how to read a cell."""
    import inspect

    said: dict[str, None] = {}
    for column in shown:
        text = " ".join((inspect.getdoc(column.entry.item) or "").split())
        said.setdefault(f"- {text}")
    conventions = {
        "loreun": "- UA is the accuracy on the forget set, as LoReUn prints it; SalUn prints 100 minus it (--ua salun).",
        "salun": "- UA (100-FA) is 100 minus the accuracy on the forget set, as SalUn prints it.",
    }
    lines = [
        "A cell is the mean over seeds ±95 % t-interval (mean difference to the Retrain of the same seeds).",
        "Best (* or bold) is what comes closest to Retrain (mean absolute difference), among rows of which every seed "
        "finished; nothing is better for "
        "being large. † over-unlearned: UA or TA more than 5 points below Retrain. n: seeds finished / run.",
        *said,
        conventions[ua],
        "- RTE: seconds of the whole run with mask and reference pass, device-synchronised, evaluation left out; × is the "
        "ratio to the same method unweighted.",
        "- Retrain-2 is a second retraining with another seed: its ToW is what noise alone costs, the best that a method "
        "can be expected to reach.",
    ]
    if any(record.cost.get("cpu_s", 0) < 0.9 * record.cost.get("rte_s", 0) for record in _cpu_records(groups)):
        lines.append(
            "- Some runs on a CPU got less than 90 % of it (cpu_s < 0.9 rte_s): the machine was busy, RTE is unsure."
        )
    return "\n".join(lines)


def _cpu_records(groups: Sequence[Group]) -> list[Any]:
    records = [record for group in groups for row in group.rows for record in row.finished]
    return [r for r in records if r.environment.get("device") == "cpu" and r.cost.get("rte_s")]


def _flat(group: Group, row: Row) -> dict[str, Any]:
    """A row with every metric: mean, half-width of the interval, gap."""

    def number(value: float | None) -> float | None:
        return value if value is not None and math.isfinite(value) else None

    def spread(key: str, cell: Cell) -> dict[str, float | None]:
        return {key: number(cell.value.mean), f"{key}_ci95": number(cell.value.half), f"{key}_gap": number(cell.gap)}

    values: dict[str, Any] = {
        "run": row.run, "track": group.track, "dataset": group.dataset, "model": group.model,
        "scenario": group.scenario, "protocol": group.protocol, "method": row.method, "weighting": row.weighting,
        "n_ok": len(row.finished), "n": len(row.records), "over_unlearned": row.over,
    }  # fmt: skip
    for key, cell in row.cells.items():
        values |= spread(key, cell)
    return values | {"rte_s": number(row.seconds.mean), "rte_ratio": number(row.ratio)}


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    out = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
