"""Ours against the best peer of every case, and both as text, 80 columns wide."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from tabulate import tabulate

from loreun_bench.bench.measure import Row

FOOTER = """\
Sides alternate in one process; a sample is the mean of a burst of calls; min
and median are over the samples. forward: the loss alone, without a graph.
forward+backward (both): loss and gradient by torch.autograd.grad, for every
side. × copy: the minimum over that of reading the logits or predictions and
writing as much into memory that is there already: 1 is the roofline of a
gradient. read once (sum): torch's sum of every floating input; a measure, not
a law. Small inputs come from cache, as in a training step. memory: the most
that a call holds beyond its inputs, results included. error: relative, against
float64 (closed form): of the loss, and of a gradient in norm. launches:
kernels, copies and fills. graph: the minimum of the same call as a replayed
CUDA graph. What was written over the logits in place is undone after each
burst, off the clock."""
COLUMNS = {
    "label": "provider", "us_min": "µs min", "us_median": "median", "x_copy": "× copy", "peak_bytes": "memory",
    "error": "error", "launches": "launches", "graph_us_min": "graph µs",
}  # fmt: skip
OPTIONAL = ("launches", "graph_us_min")  # of a GPU


def compare(rows: list[Row]) -> list[dict[str, Any]]:
    """The best peer's time over ours for every case, pass and side of ours: above 1, ours is faster."""
    found = []
    for (problem, shape, dtype, which), group in groupby(rows, _case_and_pass):
        members = list(group)
        for prefix in ("", "graph_"):
            low, mid = f"{prefix}us_min", f"{prefix}us_median"
            peers = [row for row in members if row["role"] == "peer" and row[low] is not None]
            for ours in (row for row in members if row["role"] == "ours" and row[low] is not None and peers):
                best = min(peers, key=lambda row: row[low])
                found.append({
                    "problem": problem, "shape": shape, "dtype": dtype, "pass": which + (", graph" if prefix else ""),
                    "ours": ours["provider"], "best_peer": best["provider"], "ratio_min": best[low] / ours[low],
                    "ratio_median": min(row[mid] for row in peers) / ours[mid],
                })  # fmt: skip
    return found


def case_table(rows: list[Row], style: str) -> str:
    """The rows of one case, a table for each pass under its name; below it, why a row has no figures."""
    used = [key for key in COLUMNS if key not in OPTIONAL or any(row[key] is not None for row in rows)]
    text = ""
    for (problem, shape, dtype, which), group in groupby(rows, _case_and_pass):
        members = list(group)
        lines = [[_cell(key, row) for key in used] for row in members]
        heading = f"{'### ' if style == 'md' else ''}{problem} {shape} {dtype}, {which}"
        notes = "".join(f"{row['label']}: {row['note']}\n\n" for row in members if row["note"])
        text += f"{heading}\n\n{_table(lines, [COLUMNS[key] for key in used], style)}\n\n{notes}"
    return text


def summary(rows: list[Row], style: str) -> str:
    """Ours against the best peer of every case, and how to read the tables. style: text or md."""
    ratios = [
        [f"{r['shape']} {r['dtype']}", r["pass"].replace("forward+backward", "both"), r["ours"], r["best_peer"],
         f"{r['ratio_min']:.2f}", f"{r['ratio_median']:.2f}"] for r in compare(rows)
    ]  # fmt: skip
    headings = ["peer's / our time", "pass", "ours", "best peer", "minima", "medians"]
    return (_table(ratios, headings, style) + "\n\n" if ratios else "") + FOOTER + "\n"


def _table(lines: list[list[str]], headings: list[str], style: str) -> str:
    words = {headings[0], "pass", "ours", "best peer"}
    align = ["left" if heading in words else "right" for heading in headings]
    return tabulate(lines, headings, "github" if style == "md" else "simple", disable_numparse=True, colalign=align)


def _case_and_pass(row: Row) -> tuple[str, str, str, str]:
    return row["problem"], row["shape"], row["dtype"], row["pass"]


def _cell(key: str, row: Row) -> str:
    if key == "error":
        key = "loss_error" if row["gradient_error"] is None else "gradient_error"
    value = row[key]
    if value is None:
        return "-"
    if key.endswith("_error"):
        return f"{value:.1e}"
    if key == "peak_bytes":
        return f"{value / 1e6:.{3 if value < 1e7 else 1}f} MB" if value >= 1000 else f"{value} B"
    if key == "x_copy" and value < 100:
        return f"{value:.2f}"
    if isinstance(value, float):
        return f"{value:.4g}" if value < 1000 else f"{value:.0f}"
    return str(value)
