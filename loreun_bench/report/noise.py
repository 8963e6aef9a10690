"""The noise of retraining: what a second Retrain differs from the first, and which rows lie within it."""

from __future__ import annotations

from loreun_bench.report.rows import REFERENCES, Group, Row
from loreun_bench.report.stats import Estimate

NOTE = (
    "- Retrain-2 is a second retraining with another seed: the interval of its ToW is the band of noise that retraining has "
    "of itself. A row within it, or above its lower end, cannot be told from a retrained model by ToW. Rows above Retrain-2 "
    "are no surprise: a method starts from the original model of its Retrain's own seed, a second Retrain from none."
)


def band(group: Group, run: str) -> Estimate | None:
    """The ToW of a run's second Retrain over seeds; None where it has no interval."""
    row = group.row("Retrain-2", run)
    value = row.cells["tow"].value if row is not None and "tow" in row.cells else None
    return value if value is not None and value.interval is not None else None


def within(group: Group, run: str) -> list[Row]:
    """The rows of a run whose ToW is not below the band."""
    found = band(group, run)
    if found is None or found.interval is None:
        return []
    low = found.interval[0]
    rows = [row for row in group.rows if row.run == run and row.method not in REFERENCES and row.complete]
    return [row for row in rows if row.cells["tow"].value.mean >= low]


def sentences(group: Group) -> list[str]:
    """Which rows are within the noise of retraining, run by run."""
    runs = dict.fromkeys(row.run for row in group.rows)
    said = []
    for run in runs:
        found = band(group, run)
        if found is None or found.interval is None:
            continue
        names, total = [row.name for row in within(group, run)], _methods(group, run)
        which = "all rows" if len(names) == total and total > 1 else ", ".join(names) or "no row"
        of = f" of {run}" if len(runs) > 1 else ""
        low, high = found.interval
        said.append(f"within the noise of retraining{of} (Retrain-2's ToW {low:.4f} to {high:.4f}, or above): {which}")
    return said


def _methods(group: Group, run: str) -> int:
    return sum(row.run == run and row.method not in REFERENCES for row in group.rows)
