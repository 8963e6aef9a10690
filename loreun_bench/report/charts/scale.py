"""Where values are on an axis, and which of them it names."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from loreun_bench.report.charts.chart import Axis, Mark

ROOM = 0.03  # of an axis, beyond the outermost value
MOST = 7  # ticks
APART = 0.08  # of an axis, between the tick of 0 and the next
BELOW = 4.0  # a logarithmic axis reaches down to the least value over this, whatever an interval's end is


@dataclass(frozen=True)
class Scale:
    """An axis from `low` to `high`, both above 0 if it is logarithmic. whole: it names whole numbers only. zero: the lower
    end of a logarithmic axis stands for 0, and is named so."""

    low: float
    high: float
    log: bool
    whole: bool = False
    zero: bool = False

    def at(self, value: float) -> float:
        """A value's place, 0 to 1; what is beyond an end is at that end."""
        low, high, value = (self._even(v) for v in (self.low, self.high, min(max(value, self.low), self.high)))
        return (value - low) / (high - low)

    def beyond(self, value: float) -> bool:
        """Whether a value is outside of the axis."""
        return not self.low <= value <= self.high

    def ticks(self) -> list[tuple[float, str]]:
        """Round values on the axis and how they are written."""
        if not self.log:
            return self._steps()
        if not self.zero:
            return self._decades()
        return [(self.low, "0"), *(tick for tick in self._decades() if self.at(tick[0]) > APART)]

    def _even(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def _decades(self) -> list[tuple[float, str]]:
        first, last = math.floor(math.log10(self.low)), math.floor(math.log10(self.high))
        thin = max(1, math.ceil((last - first) / MOST))
        for subs in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 5), (1, 3), (1,)):
            powers = range(first, last + 1, 1 if len(subs) > 1 else thin)
            found = [value for p in powers for s in subs if not self.beyond(value := float(f"{s}e{p}"))]
            if len(found) <= MOST:
                break
        return [(value, f"{value:g}") for value in found] if len(found) > 1 else self._steps()

    def _steps(self) -> list[tuple[float, str]]:
        rough = (self.high - self.low) / MOST
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * s for s in (1, 2, 5, 10) if power * s >= rough)
        step = max(step, 1.0) if self.whole else step
        places = max(0, -math.floor(math.log10(step) + 1e-9))
        numbers = range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1)
        return [(i * step, f"{i * step:.{places}f}".replace("-", "−")) for i in numbers]


def scale(axis: Axis, marks: Iterable[Mark], others: Iterable[float] = ()) -> Scale:
    """The scale on which all marks have room, their intervals as far as they go, and `others`."""
    marks = list(marks)
    values = [mark.value for mark in marks]
    ends = [*values, *(end for mark in marks for end in (mark.low, mark.high)), *others, *axis.shows]
    least = min((value for value in values if value > 0), default=None)
    if axis.log and least is not None:
        found = _logarithmic(max(min(end for end in ends if end > 0), least / BELOW), max(ends))
        return replace(found, low=found.low / BELOW, zero=True) if min(values) <= 0 else found
    low, high = min(ends), max(ends)
    room = ROOM * (high - low) or max(abs(high) * ROOM, 1.0)
    return Scale(low - room, high + room, False, axis.whole)


def _logarithmic(low: float, high: float) -> Scale:
    room = max((high / low) ** ROOM, 1.05)
    return Scale(low / room, high * room, True)
