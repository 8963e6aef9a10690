"""Ours against the best peer of every case, and both as text."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from tabulate import tabulate

from loreun_bench.bench.measure import Row

FOOTER = """\
Sides alternate in one process; a sample is the mean of a burst of calls; min and median are over the samples.
forward: the loss alone, without a graph. forward+backward: loss and gradient by torch.autograd.grad, for every side.
GB/s: bytes that must move over the minimum time: each input (logits, labels, references) read once, the loss and each
gradient written once. %copy: that rate against the copy of the same tensor in the same run. Small inputs come from
cache, as in a training step. read once (sum): torch's sum of every floating input; a measure, not a law.
memory: the most that a call holds beyond its inputs, results included. error: relative, against float64 (closed form);
of the gradient in norm. launches: kernels, copies and fills. graph: the same call as a replayed CUDA graph.
What was written over the logits in place is undone after each burst, off the clock."""
COLUMNS = {
    "label": "provider", "pass": "pass", "us_min": "µs min", "us_median": "median", "gb_per_s": "GB/s",
    "copy_percent": "%copy", "launches": "launches", "peak_bytes": "memory", "loss_error": "loss error",
    "gradient_error": "grad error", "graph_us_min": "graph µs min", "graph_us_median": "graph median", "note": "note",
}  # fmt: skip
OPTIONAL = ("launches", "graph_us_min", "graph_us_median", "note")


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
                    "ours": ours["label"], "best_peer": best["label"], "ratio_min": best[low] / ours[low],
                    "ratio_median": min(row[mid] for row in peers) / ours[mid],
                })  # fmt: skip
    return found


def case_table(rows: list[Row], style: str) -> str:
    """The rows of one case under its name. style: text or md."""
    used = [k for k in COLUMNS if k not in OPTIONAL or any(row[k] not in (None, "") for row in rows)]
    lines = [[_cell(key, row[key]) for key in used] for row in rows]
    heading = f"{'### ' if style == 'md' else ''}{rows[0]['problem']} {rows[0]['shape']} {rows[0]['dtype']}"
    return f"{heading}\n\n{_table(lines, [COLUMNS[key] for key in used], style)}\n\n"


def summary(rows: list[Row], style: str) -> str:
    """Ours against the best peer of every case, and how to read the tables. style: text or md."""
    ratios = [
        [f"{r['problem']} {r['shape']} {r['dtype']}", r["pass"], r["ours"], r["best_peer"],
         f"{r['ratio_min']:.2f}", f"{r['ratio_median']:.2f}"] for r in compare(rows)
    ]  # fmt: skip
    headings = ["best peer's time / ours", "pass", "ours", "best peer", "of minima", "of medians"]
    return (_table(ratios, headings, style) + "\n\n" if ratios else "") + FOOTER + "\n"


def _table(lines: list[list[str]], headings: list[str], style: str) -> str:
    words = {headings[0], "pass", "note", "ours", "best peer"}
    align = ["left" if heading in words else "right" for heading in headings]
    return tabulate(lines, headings, "github" if style == "md" else "simple", disable_numparse=True, colalign=align)


def _case_and_pass(row: Row) -> tuple[str, str, str, str]:
    return row["problem"], row["shape"], row["dtype"], row["pass"]


def _cell(key: str, value: Any) -> str:
    if value is None:
        return "-"
    if key.endswith("_error"):
        return f"{value:.1e}"
    if key == "peak_bytes":
        return f"{value / 1e6:.3f} MB" if value >= 1000 else f"{value} B"
    if key == "copy_percent":
        return f"{value:.0f}"
    if isinstance(value, float):
        return f"{value:.4g}" if value < 1000 else f"{value:.0f}"
    return str(value)
