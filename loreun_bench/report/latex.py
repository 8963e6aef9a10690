"""A table as a paper prints it: with caption and label, a method's rows together (package booktabs)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from loreun_bench.report.group import Group
from loreun_bench.report.layout import layout
from loreun_bench.report.rows import Row
from loreun_bench.report.text import commands, escaped


def together(rows: Sequence[Row]) -> list[Row]:
    """Each method's rows one after the other, unweighted first; methods in the order of their first rows."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row.run, row.method), []).append(row)
    return [row for own in found.values() for row in sorted(own, key=lambda row: row.weighting != "none")]


def begins(rows: Sequence[Row]) -> list[bool]:
    """Of each row whether it is its method's first."""
    before = [None, *rows[:-1]]
    return [b is None or (b.run, b.method) != (row.run, row.method) for b, row in zip(before, rows, strict=True)]


def spaced(tabular: str, rows: Sequence[Row]) -> str:
    """A little room above each method's first row but the table's."""
    lines = tabular.split("\n")
    first = lines.index("\\midrule") + 1
    for place in [place for place, new in enumerate(begins(rows)) if new and place][::-1]:
        lines.insert(first + place, "\\addlinespace")
    return "\n".join(lines)


def table(tabular: str, group: Group, number: int) -> str:
    """The float. number: of the table, for its label."""
    gap = ", in brackets the difference to Retrain" if layout(group.track).retrain else ""
    caption = f"{escaped(group.title)}: mean over seeds and 95\\,\\% interval{gap}; bold is best."
    label = re.sub(r"[^a-z0-9]+", "-", f"{group.dataset} {group.scenario}".lower()).strip("-")
    label += f"-{number}" if number else ""
    head = ["\\begin{table}", "\\centering", f"\\caption{{{commands(caption)}}}", f"\\label{{tab:{label}}}"]
    return "\n".join([*head, tabular, "\\end{table}"])
