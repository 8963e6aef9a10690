"""Tug of War with membership inference in place of forget accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping

from loreun_bench.decorators import metric

KEYS = ("mia_confidence", "retain_acc", "test_acc")


@metric("tow-mia", columns={"tow_mia": "ToW-MIA"}, unit="", best="high", span=(0, 1), paper="Zhao et al., NeurIPS 2024")
def tow_mia(cell: Mapping[str, float], retrain: Mapping[str, float]) -> float:
    """ToW-MIA: as ToW, with MIA in the place of UA; none where an MIA says nothing."""
    return math.prod(1 - abs(cell[key] - retrain[key]) / 100 for key in KEYS)
