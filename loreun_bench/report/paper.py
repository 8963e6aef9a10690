"""A run beside what the LoReUn paper prints: its Table 1 (CIFAR-10, ResNet-18; RTE in minutes)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from loreun_bench.errors import UserError
from loreun_bench.report.audit import checks, tables
from loreun_bench.report.audit.tables import Number, Published
from loreun_bench.report.group import Group
from loreun_bench.report.rows import REFERENCES, Row
from loreun_bench.report.statistics.estimate import LEAST
from loreun_bench.report.text import grid, plain, wrapped

TABLES = {"random": "Table 1 random", "class": "Table 1 class-wise"}  # by how a scenario's name begins
COLUMNS = {"forget_acc": "UA", "retain_acc": "RA", "test_acc": "TA", "tow": "ToW"}
DATA, MODEL, FORGOTTEN = "cifar10", "resnet18", re.compile(r"random-10%|class-[^%+]+")
DOUBTS = (checks.units, checks.tow, checks.compute)  # of what is printed, which bear on what is compared


def render(groups: Sequence[Group], width: int | None = None) -> str:
    """Each table of the run whose scenario the paper has, with the paper's numbers, and what weightings gain in both.
    UserError if there is none."""
    printed = {table.title: table for table in tables.read(tables.PAPER)}
    parts = []
    for group in groups:
        title = next((title for start, title in TABLES.items() if group.scenario.startswith(start)), None)
        if group.track == "classification" and title is not None:
            parts += _beside(group, printed[title])
    if not parts:
        raise UserError("the paper's Table 1 forgets a class or a random part, which no scenario of this run does")
    return "\n\n".join(wrapped(part, width) if "---" not in part else part for part in parts) + "\n"


def _beside(group: Group, published: Published) -> list[str]:
    rows = [row for row in group.rows if row.name in published.rows]
    said = [f"{plain(group.title)}, beside the paper's {published.title}"]
    if unlike := _unlike(group):
        said.append(
            "The paper's table is of CIFAR-10, ResNet-18, a random tenth or one class, this one of "
            f"{plain(', '.join(unlike))}: numbers cannot be compared, only the effect of a weighting on its method, with "
            "the doubts below."
        )
    head = ["row", *(text for heading in COLUMNS.values() for text in (heading, "paper"))]
    body = [[plain(row.name), *_pairs(row, published.rows[row.name])] for row in rows]
    said.append(grid(body, head, narrow=True))
    gains = [_gain(group, row, published) for row in rows if row.weighting != "none"]
    if found := [gain for gain in gains if gain]:
        said.append(grid(found, ["ToW gained by", "here", "±95 %", "shown", "paper"], narrow=True))
    else:
        said.append(f"What a weighting gains takes {LEAST} seeds and the unweighted method; here there are {group.seeds}.")
    if others := [row.name for row in group.rows if row not in rows and row.method not in REFERENCES]:
        said.append(f"Not in the paper's table: {plain(', '.join(others))}.")
    doubts = [line for check in DOUBTS for line in check(published)]
    return [*said, "\n".join(["Of the printed numbers (`audit`):", *(f"- {line}" for line in doubts)])]


def _unlike(group: Group) -> list[str]:
    """What sets a run apart from the paper's in what it measures, in words; nothing is known of the paper's recipe."""
    return [
        *([group.dataset] if group.dataset != DATA else []),
        *([group.network] if group.network != MODEL else []),
        *([group.scenario] if FORGOTTEN.fullmatch(group.scenario) is None else []),
        *(f"{number} {what} only" for what, number in group.limits.items()),
        *(["a checkpoint trained elsewhere"] if group.conditions.get("original") else []),
    ]


def _pairs(row: Row, printed: Mapping[str, Number]) -> list[str]:
    cells = []
    for key, heading in COLUMNS.items():
        value, places = row.cells[key].value.mean, 4 if key == "tow" else 2
        cells += [f"{value:.{places}f}" if math.isfinite(value) else "-"]
        cells += [f"{printed[heading].value:.{places}f}" if heading in printed else "-"]
    return cells


def _gain(group: Group, row: Row, published: Published) -> list[str]:
    """What a weighting gains on its method here, and in the paper."""
    found = [d for standing in group.standings for d in standing.unweighted if d.row is row and d.column.key == "tow"]
    printed = [published.rows[name].get("ToW") for name in (row.name, row.method) if name in published.rows]
    if not found or len(printed) < 2 or printed[0] is None or printed[1] is None:
        return []
    gain = printed[0].value - printed[1].value
    own = found[0]
    return [plain(row.name), f"{own.mean:+.4f}", f"{own.half:.4f}", "yes" if own.shown else "-", f"{gain:+.4f}"]
