"""What a table is made of: columns, cells, rows, groups of rows that may be compared."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from loreun_bench.errors import UserError, did_you_mean
from loreun_bench.harness.records import Record
from loreun_bench.registry import REFERENCES as REFERENCES
from loreun_bench.registry import Entry
from loreun_bench.report.layout import layout
from loreun_bench.report.stats import UNBOUNDED, Estimate, estimate

Seeds = tuple[tuple[str, int], ...]


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

    uninformative: in some seed it says nothing. lacks: what a derived value had to do without.
    """

    value: Estimate
    gap: float | None = None
    distance: float | None = None
    uninformative: bool = False
    lacks: frozenset[str] = frozenset()


@dataclass
class Row:
    """One method with one weighting. `seconds` is the RTE, `ratio` its ratio to the unweighted method, seed by seed.

    expected: how many seeds it would have if none were missing. marks: names of `marks.MARKS`.
    """

    method: str
    weighting: str
    run: str
    records: list[Record]
    expected: int
    cells: dict[str, Cell] = field(default_factory=dict)
    seconds: Estimate = field(default_factory=lambda: estimate([]))
    ratio: float = math.nan
    best: set[str] = field(default_factory=set)
    marks: set[str] = field(default_factory=set)

    @property
    def finished(self) -> list[Record]:
        """The records whose status is ok."""
        return [record for record in self.records if record.status == "ok"]

    @property
    def complete(self) -> bool:
        """Whether every seed finished."""
        return len(self.finished) == self.expected

    @property
    def uninformative(self) -> set[str]:
        """Metrics that say nothing in some seed."""
        return {key for record in self.finished for key in record.uninformative}

    @property
    def name(self) -> str:
        """Method and weighting."""
        return self.method if self.weighting == "none" else f"{self.method} {self.weighting}"


@dataclass
class Group:
    """Rows that may be compared: same track, data, model, scenario, protocol, limits and conditions of measuring.

    seeds: what the title says of them. apart: runs have no seed in common, so that only rows of one run are compared.
    differs: what sets it apart from another table of the same title.
    """

    track: str
    dataset: str
    model: str
    scenario: str
    protocol: str
    rows: list[Row]
    limits: dict[str, int]
    columns: list[Column]
    conditions: dict[str, Any] = field(default_factory=dict)
    seeds: str = ""
    apart: bool = False
    differs: str = ""

    def measured(self, key: str) -> bool:
        """Whether a record holds the metric."""
        return any(key in record.metrics for row in self.rows for record in row.records)

    def row(self, method: str, run: str) -> Row | None:
        """The unweighted row of a method."""
        return next((r for r in self.rows if (r.method, r.weighting, r.run) == (method, "none", run)), None)

    def choose(self, keys: Sequence[str] | None = None) -> list[Column]:
        """The columns named by `keys`, or the usual ones of the track. UserError for a name that is none of them."""
        usual = layout(self.track)
        if keys is None:
            nothing = not any(self.measured(key) for key in usual.shown)  # then the empty columns say what is missing
            derived = {column.key for column in self.columns if column.derived}
            keys = [k for k in usual.shown if self.measured(k) or (usual.retrain and (nothing or k in derived))]
            theirs = [column for column in self.columns if column.plugged]
            own = [column.key for column in theirs if column.derived or self.measured(column.key)]
            keys = [*keys, *(key for key in own if key not in keys)]
        return named(self.columns, keys)

    @property
    def title(self) -> str:
        """One line that says what was compared."""
        cut = " and ".join(f"{v} {k}" for k, v in self.limits.items())
        limits = f", LIMITED to {cut}: a smoke run, not a result" if cut else ""
        what = f"{self.dataset}, {self.model}, {self.scenario}"
        hidden = layout(self.track).hidden
        how = "".join(f", {value} {key}" for key, value in self.conditions.items() if key not in hidden)
        differs = f"; {self.differs}" if self.differs else ""
        return f"{what}{how}, {self.seeds}, protocol {self.protocol}{limits}{differs}"


def named(known: Iterable[Column], keys: Iterable[str]) -> list[Column]:
    """Those of `known` that `keys` name, in their order. UserError for a key that is none of them."""
    every = {column.key: column for column in known}
    for key in keys:
        if key not in every:
            raise UserError(f"unknown column '{key}'; {did_you_mean(key, every)}")
    return [every[key] for key in keys]
