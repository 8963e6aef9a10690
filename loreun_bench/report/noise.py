"""The noise of retraining: what a second Retrain differs from the first."""

from __future__ import annotations

from loreun_bench.report.group import Group
from loreun_bench.report.statistics.estimate import Estimate

NOTE = (
    "- Retrain-2 is a second retraining with another seed: 1 minus its ToW is how far retrainings are from one another. "
    "Rows above Retrain-2 are no surprise: a method starts from the original model of its Retrain's own seed, a second "
    "Retrain from no trained model."
)


def band(group: Group, run: str) -> Estimate | None:
    """The ToW of a run's second Retrain over seeds; None where it has no interval."""
    row = group.row("Retrain-2", run)
    value = row.cells["tow"].value if row is not None and "tow" in row.cells else None
    return value if value is not None and value.interval is not None else None
