"""Statistics over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """Mean of n values and the half-width of its 95 % t-interval (NaN for one value, or where one is not finite).

    exact: of a share in percent, the exact interval of all that was counted, whatever the seeds.
    """

    mean: float
    half: float
    n: int
    exact: tuple[float, float] | None = None

    def spread(self, digits: int, flip: bool = False) -> str:
        """The interval behind a value: ±half, and [low, high] of a share of which seeds say nothing, one or all alike."""
        if self.exact is not None and not self.half > 0:
            low, high = sorted(100 - end for end in self.exact) if flip else self.exact
            return f" [{low:.{max(digits - 1, 1)}f}, {high:.{max(digits - 1, 1)}f}]"
        return f" ±{self.half:.{digits}f}" if math.isfinite(self.half) else ""


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
