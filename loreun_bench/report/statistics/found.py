"""What is found of a table's rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from loreun_bench.report.rows import Column, Row
from loreun_bench.report.statistics.estimate import LEAST
from loreun_bench.report.statistics.paired import LEVEL


@dataclass(frozen=True)
class Difference:
    """A row's mean difference to `base` in one column, paired by seed: above 0 it is better, whatever the column.

    half: of the 95 % t-interval. p: corrected for all comparisons of its kind in the table; NaN where seeds are alike.
    least: what a test of this comparison alone would find in four of five such sweeps.
    """

    row: Row
    base: Row
    column: Column
    mean: float
    half: float
    p: float
    least: float

    @property
    def shown(self) -> bool:
        """Whether the seeds show it."""
        return self.p < LEVEL


@dataclass(frozen=True)
class Retraining:
    """How rows stand beside a second retraining, by ToW: further from the first, as close (shown to be less than twice as
    far from it, or closer), both (further, but less than twice as far), or neither shown. margin: how far the second is from
    the first."""

    margin: float
    further: Sequence[Difference] = ()
    close: Sequence[Difference] = ()
    both: Sequence[Difference] = ()
    unknown: Sequence[Difference] = ()


@dataclass(frozen=True)
class Standing:
    """What the seeds show of rows that may be compared, the leader first.

    ranks: by a row's id the first and the last place that the seeds leave it, of all rows at once with 95 % certainty; empty
    for more than MOST rows. unweighted: of each weighting to its method without one; leader: of each row to the first;
    untouched: of each row to Original, by ToW. left: rows that take no part, as a seed lacks.
    """

    rows: Sequence[Row]
    columns: Sequence[Column]
    seeds: int
    ranks: dict[int, tuple[int, int]] = field(default_factory=dict)
    unweighted: Sequence[Difference] = ()
    leader: Sequence[Difference] = ()
    untouched: Sequence[Difference] = ()
    left: Sequence[Row] = ()
    retraining: Sequence[Retraining] = ()

    @property
    def enough(self) -> bool:
        """Whether there are seeds enough to say anything."""
        return self.seeds >= LEAST and bool(self.rows)
