"""Statistics over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEAST = 3  # values below which a t-interval is so wide, or by chance so narrow, that it says nothing
UNBOUNDED = (-math.inf, math.inf)


@dataclass(frozen=True)
class Estimate:
    """Mean of n values and the half-width of its 95 % t-interval (NaN below three, or where one is not finite).

    exact: of a share, the exact interval of all that was counted, in the values' unit. span: the least and greatest value
    that there can be.
    """

    mean: float
    half: float
    n: int
    exact: tuple[float, float] | None = None
    span: tuple[float, float] = UNBOUNDED

    @property
    def symmetric(self) -> bool:
        """Whether mean ± half is the interval: seeds say something, and it stays where values can be."""
        low, high = self.span
        inside = low <= self.mean - self.half and self.mean + self.half <= high
        return self.half > 0 and (inside or not low <= self.mean <= high)

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval: over seeds; where that leaves the span, what the span leaves of it together with the exact one
        of the counts; the exact one alone where seeds say nothing, few or all alike; None where nothing is known."""
        if self.symmetric:
            return self.mean - self.half, self.mean + self.half
        ends = [self.mean, *(self.exact or ())]
        if self.half > 0:
            ends += [max(self.mean - self.half, self.span[0]), min(self.mean + self.half, self.span[1])]
        return (min(ends), max(ends)) if len(ends) > 1 and math.isfinite(self.mean) else None

    def spread(self, digits: int, flip: bool = False) -> str:
        """The interval as it stands behind a value: ±half or [low, high]. flip: of 100 minus the value."""
        if self.interval is None:
            return ""
        if self.symmetric:
            return f" ±{self.half:.{digits}f}"
        low, high = sorted(100 - end for end in self.interval) if flip else self.interval
        places = max(digits - 1, min(digits, 1))
        return f" [{low:.{places}f}, {high:.{places}f}]"


def mean(values: Sequence[float]) -> float:
    """The mean; NaN for no values, or if one is not finite."""
    finite = bool(values) and all(map(math.isfinite, values))
    return math.fsum(values) / len(values) if finite else math.nan


def estimate(
    values: Sequence[float], span: tuple[float, float] = UNBOUNDED, exact: tuple[float, float] | None = None,
    independent: bool = True,
) -> Estimate:  # fmt: skip
    """The mean and its interval; NaN for no values. independent: False where values are alike for another reason than that
    they hardly vary, so that there is no interval over seeds."""
    n, middle = len(values), mean(values)
    if n < LEAST or not independent or not math.isfinite(middle):
        return Estimate(middle, math.nan, n, exact, span)
    from scipy.special import stdtrit  # Student's t

    deviation = math.sqrt(math.fsum((v - middle) ** 2 for v in values) / (n - 1))
    if deviation < 1e-12 * max(map(abs, values), default=0.0):  # alike, but for rounding
        deviation = 0.0
    return Estimate(middle, float(stdtrit(n - 1, 0.975)) * deviation / math.sqrt(n), n, exact, span)
