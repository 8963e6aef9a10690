"""The leaderboard as data: groups of comparable rows, each cell an estimate with its gap to the matched Retrain."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import loreun_bench
from loreun_bench.errors import UserError, did_you_mean
from loreun_bench.harness.records import Record
from loreun_bench.harness.shares import clopper_pearson
from loreun_bench.registry import Entry, blamed, registry
from loreun_bench.report.layout import layout
from loreun_bench.report.stats import Estimate, estimate

PACKAGE = Path(loreun_bench.__file__).resolve().parent
REFERENCES = ("Original", "Retrain", "Retrain-2")  # shown for orientation, not ranked
HIDDEN = ("data", "pipeline", "prompts")  # conditions that are hashes
OVER = 5.0  # points below Retrain at which a row is flagged as over-unlearned


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
        return self.entry is not None and PACKAGE not in self.entry.file.resolve().parents


@dataclass(frozen=True)
class Cell:
    """A value over seeds, and the differences to the matched Retrain: mean signed and mean absolute (None: not the aim)."""

    value: Estimate
    gap: float | None = None
    distance: float | None = None


@dataclass
class Row:
    """One method with one weighting. `seconds` is the RTE, `ratio` its ratio to the unweighted method, seed by seed."""

    method: str
    weighting: str
    run: str
    records: list[Record]
    cells: dict[str, Cell] = field(default_factory=dict)
    seconds: Estimate = field(default_factory=lambda: estimate([]))
    ratio: float = math.nan
    best: set[str] = field(default_factory=set)
    over: bool = False

    @property
    def finished(self) -> list[Record]:
        """The records whose status is ok."""
        return [record for record in self.records if record.status == "ok"]

    @property
    def complete(self) -> bool:
        """Whether every seed finished."""
        return len(self.finished) == len(self.records)


@dataclass
class Group:
    """Rows that may be compared: same track, data, model, scenario, protocol, limits and conditions of measuring."""

    track: str
    dataset: str
    model: str
    scenario: str
    protocol: str
    rows: list[Row]
    limits: dict[str, int]
    columns: list[Column]
    conditions: dict[str, Any] = field(default_factory=dict)

    def measured(self, key: str) -> bool:
        """Whether a record holds the metric."""
        return any(key in record.metrics for row in self.rows for record in row.records)

    def choose(self, keys: Sequence[str] | None = None) -> list[Column]:
        """The columns named by `keys`, or the usual ones of the track. UserError for a name that is none of them."""
        usual = layout(self.track)
        if keys is None:
            keys = [key for key in usual.shown if usual.retrain or self.measured(key)]
            theirs = [column for column in self.columns if column.plugged]
            own = [column.key for column in theirs if column.derived or self.measured(column.key)]
            keys = [*keys, *(key for key in own if key not in keys)]
        return named(self.columns, keys)

    @property
    def title(self) -> str:
        """One line that says what was compared."""
        seeds = max((len(row.records) for row in self.rows), default=0)
        cut = " and ".join(f"{v} {k}" for k, v in self.limits.items())
        limits = f", LIMITED to {cut}: a smoke run, not a result" if cut else ""
        what = f"{self.dataset}, {self.model}, {self.scenario}"
        how = "".join(f", {value} {key}" for key, value in self.conditions.items() if key not in HIDDEN)
        return f"{what}{how}, {seeds} seed{'s' * (seeds != 1)}, protocol {self.protocol}{limits}"


def columns(track: str, measured: Iterable[str] = ()) -> list[Column]:
    """All columns of a track, in the registry's order; then those of `measured` that belong to no installed metric."""
    every = {
        key: Column(key, heading, entry.info["unit"], entry.info["best"][key], entry)
        for entry in registry("metrics", track).entries()
        for key, heading in entry.info["columns"].items()
    }
    return [*every.values(), *(Column(key, key, "", "", None) for key in sorted(set(measured) - set(every)))]


def build(runs: Iterable[tuple[str, Sequence[Record]]], sort: str | None = None) -> list[Group]:
    """Groups of rows from (name of run, records); the rows that come closest to Retrain first.

    sort: a column's key, by default the track's (see `layout`). Rows with failed seeds come after complete ones,
    references first.
    """
    groups: dict[tuple[str, ...], dict[tuple[str, str, str], list[Record]]] = {}
    metrics: dict[str, set[str]] = {}
    for run, records in runs:
        for r in records:
            metrics.setdefault(r.track, set()).update(r.metrics)
            compared = json.dumps([r.limits, r.conditions], sort_keys=True)
            group = groups.setdefault((r.track, r.dataset, r.model, r.scenario, r.protocol, compared), {})
            group.setdefault((run, r.method, r.weighting), []).append(r)
    return [_group(key, rows, sort, metrics[key[0]]) for key, rows in groups.items()]


def _group(
    key: tuple[str, ...], found: dict[tuple[str, str, str], list[Record]], sort: str | None, metrics: set[str]
) -> Group:
    usual = layout(key[0])
    shown = columns(key[0], () if usual.retrain else metrics)
    orders = named(shown, [sort] if sort else [name for name in usual.sort if usual.retrain or name in metrics])
    rows = [Row(method, weighting, run, records) for (run, method, weighting), records in found.items()]
    for row in rows:
        _fill(row, rows, shown)
    for column in shown:
        _mark_best(column, rows)
    rows.sort(key=lambda row: _rank(row, orders))
    track, dataset, model, scenario, protocol, _ = key
    one = rows[0].records[0]
    return Group(track, dataset, model, scenario, protocol, rows, one.limits, shown, one.conditions)


def named(known: Iterable[Column], keys: Iterable[str]) -> list[Column]:
    """Those of `known` that `keys` name, in their order. UserError for a key that is none of them."""
    every = {column.key: column for column in known}
    for key in keys:
        if key not in every:
            raise UserError(f"unknown column '{key}'; {did_you_mean(key, every)}")
    return [every[key] for key in keys]


def _fill(row: Row, rows: Sequence[Row], shown: Sequence[Column]) -> None:
    pairs = [(r, _partner(r, rows, row.run, "Retrain", "none")) for r in row.finished]
    for column in shown:
        row.cells[column.key] = _cell(column, pairs)
    row.seconds = estimate([r.cost.get("rte_s", math.nan) for r in row.finished])
    bases = [(r, _partner(r, rows, row.run, row.method, "none")) for r in row.finished]
    times = [(r.cost.get("rte_s", math.nan), base.cost.get("rte_s", math.nan)) for r, base in bases if base is not None]
    if times and sum(base for _, base in times) > 0:
        row.ratio = sum(own for own, _ in times) / sum(base for _, base in times)
    gaps = [row.cells[key].gap for key in ("forget_acc", "test_acc") if key in row.cells]
    row.over = row.method not in REFERENCES and any(gap is not None and gap < -OVER for gap in gaps)


def _partner(record: Record, rows: Sequence[Row], run: str, method: str, weighting: str) -> Record | None:
    """The finished record of `method` × `weighting` in the same run with the same seeds."""
    for row in rows:
        if (row.run, row.method, row.weighting) == (run, method, weighting):
            return next((r for r in row.finished if r.seeds == record.seeds), None)
    return None


def _cell(column: Column, pairs: Sequence[tuple[Record, Record | None]]) -> Cell:
    if column.derived:
        derived = [_derive(column, r, base) for r, base in pairs if base is not None]
        values = [value for value in derived if value is not None]
        return Cell(_independent(values, pairs))
    values = [r.metrics[column.key] for r, _ in pairs if column.key in r.metrics]
    gaps = [
        r.metrics[column.key] - base.metrics[column.key]
        for r, base in pairs
        if base is not None and column.key in r.metrics and column.key in base.metrics
    ]
    found = replace(_independent(values, pairs), exact=_exact(column, [r for r, _ in pairs]))
    if not gaps or column.best != "retrain":
        return Cell(found)
    return Cell(found, math.fsum(gaps) / len(gaps), math.fsum(map(abs, gaps)) / len(gaps))


def _exact(column: Column, records: Sequence[Record]) -> tuple[float, float] | None:
    """The exact interval, in percent, of a share over all that these records counted."""
    if column.unit != "%" or not records or not all(column.key in record.counts for record in records):
        return None
    once = {record.evaluation or number: record for number, record in enumerate(records)}.values()  # not the same again
    hits, n = (sum(record.counts[column.key][i] for record in once) for i in (0, 1))
    low, high = clopper_pearson(hits, n)
    return low, high


def _independent(values: Sequence[float], pairs: Sequence[tuple[Record, Record | None]]) -> Estimate:
    """The estimate; without an interval if seeds share one model, whose equal values say nothing about its spread.

    The original of a track that retrains nothing came as it is, and is measured on pictures of its own for every seed.
    """
    given = [r.method == "Original" and not layout(r.track).retrain for r, _ in pairs]
    models = [key for (r, _), own in zip(pairs, given, strict=True) if (key := r.evaluation if own else r.artifact)]
    found = estimate(values)
    return found if len(set(models)) == len(models) else Estimate(found.mean, math.nan, found.n)


def _derive(column: Column, record: Record, retrain: Record) -> float | None:
    """A derived metric's value; None if one that it reads was not measured."""
    assert column.entry is not None
    with blamed(column.entry.file, f"metric '{column.entry.name}'"):
        try:
            return float(column.entry.item(record.metrics, retrain.metrics))
        except KeyError:
            return None


def _distance(column: Column, cell: Cell) -> float:
    """How far a cell is from the best: the mean absolute gap to Retrain, or the value in the direction that is better."""
    if column.best == "retrain":
        return cell.distance if cell.distance is not None else math.inf
    value = -cell.value.mean if column.best == "high" else cell.value.mean
    return value if math.isfinite(value) else math.inf


def _mark_best(column: Column, rows: Sequence[Row]) -> None:
    if not column.best:
        return
    ranked = [row for row in rows if row.method not in REFERENCES and row.complete]
    distances = [_distance(column, row.cells[column.key]) for row in ranked]
    least = min(distances, default=math.inf)
    for row, distance in zip(ranked, distances, strict=True):
        if math.isfinite(distance) and distance <= least + 1e-9:
            row.best.add(column.key)


def _rank(row: Row, orders: Sequence[Column]) -> tuple[int, bool, list[float], str]:
    reference = REFERENCES.index(row.method) if row.method in REFERENCES else len(REFERENCES)
    distances = [_distance(order, row.cells[order.key]) for order in orders]
    return (reference, not row.complete, distances, f"{row.method} {row.weighting}")
