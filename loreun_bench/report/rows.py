"""What a table is made of: columns, cells, rows."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from loreun_bench.errors import UserError, did_you_mean
from loreun_bench.harness.records import Record
from loreun_bench.registry import REFERENCES as REFERENCES
from loreun_bench.registry import Entry
from loreun_bench.report.statistics.estimate import UNBOUNDED, Estimate, estimate

Seeds = tuple[tuple[str, int], ...]


def seeds_of(record: Record) -> Seeds:
    """A record's seeds, by which those of other rows are paired with it."""
    return tuple(sorted(record.seeds.items()))


@dataclass(frozen=True)
class Column:
    """A metric's key, heading, unit, which way is best ("" for unknown), and its definition, if it is installed."""

    key: str
    heading: str
    unit: str
    best: str
    entry: Entry | None

    @property
    def derived(self) -> bool:
        """Whether it is computed from a cell and its Retrain."""
        return self.entry is not None and bool(self.entry.info["derived"])

    @property
    def over_seeds(self) -> bool:
        """Whether it is one value of all seeds together."""
        return self.entry is not None and "seeds" in self.entry.info["needs"]

    @property
    def plugged(self) -> bool:
        """Whether it is somebody else's, not of this package's own files."""
        return self.entry is not None and self.entry.plugged

    @property
    def span(self) -> tuple[float, float]:
        """The least and greatest value that there can be."""
        return UNBOUNDED if self.entry is None else self.entry.info["span"]


@dataclass(frozen=True)
class Cell:
    """A value over seeds, and the differences to the matched Retrain: mean signed and mean absolute (None: not the aim).

    uninformative: in some seed it says nothing. lacks: what a derived value had to do without. null: of a value over seeds,
    the range in which 95 % of retrainings lie.
    """

    value: Estimate
    gap: float | None = None
    distance: float | None = None
    uninformative: bool = False
    lacks: frozenset[str] = frozenset()
    null: tuple[float, float] | None = None

    @property
    def as_retrained(self) -> bool:
        """Whether a value over seeds is one that retraining has, too."""
        return self.null is not None and self.null[0] <= self.value.mean <= self.null[1]


@dataclass
class Row:
    """One method with one weighting. `seconds` is the RTE, `ratio` its ratio to the unweighted method, seed by seed.

    expected: how many seeds it would have if none were missing. values: by column, one a seed, but for those that say
    nothing. independent: each seed has a model of its own. marks: names of `marks.MARKS`. over: the record over all seeds.
    """

    method: str
    weighting: str
    run: str
    records: list[Record]
    expected: int
    cells: dict[str, Cell] = field(default_factory=dict)
    values: dict[str, dict[Seeds, float]] = field(default_factory=dict)
    independent: bool = True
    seconds: Estimate = field(default_factory=lambda: estimate([]))
    ratio: float = math.nan
    best: set[str] = field(default_factory=set)
    marks: set[str] = field(default_factory=set)
    over: Record | None = None

    @cached_property
    def finished(self) -> list[Record]:
        """The records whose status is ok."""
        return [record for record in self.records if record.status == "ok"]

    @cached_property
    def by_seeds(self) -> dict[Seeds, Record]:
        """Those by their seeds."""
        return {seeds_of(record): record for record in self.finished}

    @property
    def complete(self) -> bool:
        """Whether every seed finished."""
        return len(self.finished) == self.expected

    @cached_property
    def uninformative(self) -> set[str]:
        """Metrics that say nothing in some seed."""
        return {key for record in self.finished for key in record.uninformative}

    @property
    def rule(self) -> str:
        """The weighting as a table says it: a reference has none."""
        return "" if self.method in REFERENCES else self.weighting

    @property
    def name(self) -> str:
        """Method and weighting."""
        return self.method if self.weighting == "none" else f"{self.method} {self.weighting}"


def named(known: Iterable[Column], keys: Iterable[str]) -> list[Column]:
    """Those of `known` that `keys` name, in their order. UserError for a key that is none of them."""
    every = {column.key: column for column in known}
    for key in keys:
        if key not in every:
            raise UserError(f"unknown column '{key}'; {did_you_mean(key, every)}")
    return [every[key] for key in keys]
