"""Statistics over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """Mean of n values and the half-width of its 95 % t-interval (NaN for one value, or where one is not finite)."""

    mean: float
    half: float
    n: int


def estimate(values: Sequence[float]) -> Estimate:
    """The mean and its interval; NaN for no values."""
    n = len(values)
    if n == 0:
        return Estimate(math.nan, math.nan, 0)
    mean = math.fsum(values) / n
    if n == 1 or not math.isfinite(mean):
        return Estimate(mean, math.nan, n)
    from scipy.stats import t

    deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    return Estimate(mean, float(t.ppf(0.975, n - 1)) * deviation / math.sqrt(n), n)
