"""The average gap to Retrain."""

from __future__ import annotations

from collections.abc import Mapping

from loreun_bench.decorators import metric

KEYS, MIA = ("forget_acc", "retain_acc", "test_acc"), "mia_confidence"


@metric("avg-gap", columns={"avg_gap": "Avg. Gap"}, best="low", paper="SalUn (ICLR 2024)", optional=("mia_confidence",))
def avg_gap(cell: Mapping[str, float], retrain: Mapping[str, float]) -> float:
    """Avg. Gap: mean |difference to Retrain| over UA, RA, TA and MIA, in percentage points; without MIA (°) where there is
    none that says something."""
    known = [*KEYS, MIA] if MIA in cell and MIA in retrain else KEYS
    return sum(abs(cell[key] - retrain[key]) for key in known) / len(known)
