"""Tug of War: the trade-off between forgetting and keeping, in one number."""

from __future__ import annotations

import math
from collections.abc import Mapping

from loreun_bench.decorators import metric

KEYS = ("forget_acc", "retain_acc", "test_acc")


@metric(
    "tow",
    columns={"tow": "ToW"},
    unit="",
    best="high",
    span=(0, 1),
    paper="Zhao et al., NeurIPS 2024; LoReUn section 5.1",
)
def tow(cell: Mapping[str, float], retrain: Mapping[str, float]) -> float:
    """ToW: the product over UA, RA, TA of 1 - |difference to Retrain|, accuracies as fractions; 1 is Retrain itself."""
    return math.prod(1 - abs(cell[key] - retrain[key]) / 100 for key in KEYS)
