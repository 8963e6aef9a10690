"""Groups of rows that may be compared: a table each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from loreun_bench.harness.records import Record
from loreun_bench.report.layout import layout
from loreun_bench.report.rows import Column, Row, named, seeds_of
from loreun_bench.report.statistics.found import Standing

SETTINGS = "model settings"


@dataclass
class Group:
    """Rows that may be compared: same track, data, model, scenario, protocol, limits and conditions of measuring.

    seeds: what the title says of them. apart: runs have no seed in common, so that only rows of one run are compared.
    differs: what sets it apart from another table of the same title. standings: what the seeds show of the rows.
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
    standings: Sequence[Standing] = ()

    def measured(self, key: str) -> bool:
        """Whether a record holds the metric."""
        return any(key in record.metrics for row in self.rows for record in row.records)

    @property
    def over_seeds(self) -> list[Column]:
        """The columns of the table over seeds: those that any row has a value for."""
        known = [column for column in self.columns if column.over_seeds]
        first = layout(self.track).over_seeds
        known.sort(key=lambda column: first.index(column.key) if column.key in first else len(first))
        return [c for c in known if any(row.over is not None and c.key in row.over.metrics for row in self.rows)]

    @cached_property
    def _unweighted(self) -> dict[tuple[str, str], Row]:
        return {(row.method, row.run): row for row in self.rows if row.weighting == "none"}

    def row(self, method: str, run: str) -> Row | None:
        """The unweighted row of a method."""
        return self._unweighted.get((method, run))

    def partner(self, record: Record, run: str, method: str) -> Record | None:
        """The finished record of the unweighted `method` in a run with the same seeds."""
        row = self.row(method, run)
        return None if row is None else row.by_seeds.get(seeds_of(record))

    def places(self, column: Column) -> int:
        """Digits after the point for a difference in a column."""
        return layout(self.track).decimals(column.key, column.unit, [])

    def choose(self, keys: Sequence[str] | None = None) -> list[Column]:
        """The columns named by `keys`, or the usual ones of the track. UserError for a name that is none of them."""
        usual = layout(self.track)
        if keys is None:
            nothing = not any(self.measured(key) for key in usual.shown)  # then the empty columns say what is missing
            derived = {column.key for column in self.columns if column.derived}
            there = {key for row in self.rows for key, values in row.values.items() if values}
            lacking = {key for key in usual.shown if usual.retrain and (nothing or key in derived)}
            keys = [key for key in usual.shown if self.measured(key) or key in there | lacking]
            theirs = [column for column in self.columns if column.plugged]
            own = [column.key for column in theirs if column.derived or self.measured(column.key)]
            keys = [*keys, *(key for key in own if key not in keys)]
        return named(self.columns, keys)

    @property
    def network(self) -> str:
        """The model, with its settings where they are not its defaults."""
        own = self.conditions.get(SETTINGS)
        said = ", ".join(f"{key} {value}" for key, value in own.items()) if isinstance(own, dict) else ""
        return f"{self.model} ({said})" if said else self.model

    @property
    def title(self) -> str:
        """One line that says what was compared."""
        cut = " and ".join(f"{v} {k}" for k, v in self.limits.items())
        limits = f", LIMITED to {cut}{': a smoke run, not a result' * ('steps' in self.limits)}" if cut else ""
        what = f"{self.dataset}, {self.network}, {self.scenario}"
        hidden = layout(self.track).hidden
        how = "".join(f", {value} {key}" for key, value in self.conditions.items() if key not in hidden)
        differs = f"; {self.differs}" if self.differs else ""
        return f"{what}{how}, {self.seeds}, protocol {self.protocol}{limits}{differs}"
