"""What a cell of a table holds: a value over seeds, its interval, its distance to the Retrain of the same seeds."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

from loreun_bench.harness.records import Record
from loreun_bench.harness.shares import clopper_pearson
from loreun_bench.registry import blamed
from loreun_bench.report.group import Group
from loreun_bench.report.layout import layout
from loreun_bench.report.rows import Cell, Column, Row, Seeds
from loreun_bench.report.statistics.estimate import Estimate, estimate, mean

Trio = tuple[Seeds, Record, Record | None]  # a record and its Retrain, or what else it is compared with
RTE = Column("rte_s", "RTE", "", "low", None)
NOTHING = Cell(estimate([]))
Made = tuple[Cell, dict[Seeds, float]]  # a cell, and what it is made of, but for what says nothing


def fill(row: Row, group: Group, shown: Sequence[Column]) -> None:
    """A row's cells, its time, and its time's ratio to the unweighted method."""
    usual = layout(group.track)
    row.independent = _independent(row)
    compared, base = (group.row(name, row.run) for name in (usual.reference, row.method))
    trios = [(seeds, r, compared.by_seeds.get(seeds) if compared else None) for seeds, r in row.by_seeds.items()]
    alone = trios if usual.retrain else [(seeds, r, None) for seeds, r, _ in trios]  # a gap is to Retrain only
    theirs = {key for _, _, other in trios if other is not None for key in other.uninformative}
    measured = {key for r in row.finished for key in r.metrics}
    for column in shown:
        if column.over_seeds:
            row.cells[column.key], row.values[column.key] = _over_seeds(column, row), {}
            continue
        if not column.derived and column.key not in measured:
            row.cells[column.key], row.values[column.key] = NOTHING, {}
            continue
        made = _derived(column, row, trios, theirs) if column.derived else _stored(column, row, alone, theirs)
        row.cells[column.key], row.values[column.key] = made
    row.seconds = estimate([_seconds(r) for r in row.finished])
    row.cells[RTE.key], row.values[RTE.key] = Cell(row.seconds), {seeds: _seconds(r) for seeds, r in row.by_seeds.items()}
    both = row.by_seeds.keys() & base.by_seeds.keys() if base else ()
    if base and (whole := math.fsum(_seconds(base.by_seeds[seeds]) for seeds in both)) > 0:
        row.ratio = math.fsum(_seconds(row.by_seeds[seeds]) for seeds in both) / whole


def _over_seeds(column: Column, row: Row) -> Cell:
    """The one value of all seeds; the aim of one that is no better for being low or high is the middle of retraining's."""
    if row.over is None or column.key not in row.over.metrics:
        return NOTHING
    value, null = row.over.metrics[column.key], row.over.null.get(column.key)
    found = Estimate(value, row.over.ci95.get(column.key, math.nan), row.over.models, span=column.span)
    if null is None:
        return Cell(found)
    gap = value - (null[0] + null[1]) / 2 if column.best == "retrain" else None
    return Cell(found, gap, None if gap is None else abs(gap), null=(null[0], null[1]))


def _seconds(record: Record) -> float:
    return record.cost.get("rte_s", math.nan)


def _stored(column: Column, row: Row, trios: Sequence[Trio], theirs: Collection[str]) -> Made:
    """theirs: what says nothing in the row's Retrain."""
    key = column.key
    values = {seeds: r.metrics[key] for seeds, r, _ in trios if key in r.metrics}
    counted = exact(column, [r for _, r, _ in trios if key in r.metrics])
    found = estimate(list(values.values()), column.span, counted, row.independent)
    if key in row.uninformative:
        return Cell(found, uninformative=True), {}
    if column.best != "retrain" or key in theirs:
        return Cell(found), values
    aims = {seeds: base.metrics[key] for seeds, _, base in trios if base and key in base.metrics}
    gaps = [value - aims[seeds] for seeds, value in values.items() if seeds in aims]
    return (Cell(found, mean(gaps), mean([abs(gap) for gap in gaps])) if gaps else Cell(found)), values


def _derived(column: Column, row: Row, trios: Sequence[Trio], theirs: Collection[str]) -> Made:
    assert column.entry is not None
    silent = {*row.uninformative, *theirs}
    values, lacks = {}, set()
    for seeds, record, base in trios:
        if base is None and layout(record.track).retrain:
            continue
        cell, other = (_audible(r.metrics if r else {}, silent) for r in (record, base))
        with blamed(column.entry.file, f"metric '{column.entry.name}'"):
            try:
                values[seeds] = float(column.entry.item(cell, other))
            except KeyError:  # one that it reads was not measured, or says nothing
                continue
        lacks |= {key for key in column.entry.info["optional"] if key not in cell or key not in other}
    return Cell(estimate(list(values.values()), column.span, independent=row.independent), lacks=frozenset(lacks)), values


def _audible(metrics: Mapping[str, float], silent: Collection[str]) -> Mapping[str, float]:
    """The metrics that say something, which whoever is given them cannot change."""
    return MappingProxyType({k: v for k, v in metrics.items() if k not in silent} if silent else metrics)


def _independent(row: Row) -> bool:
    """Whether each seed has a model of its own. The original of a track that retrains nothing came as it is, and is measured
    on pictures of its own for every seed."""
    given = row.method == "Original" and not layout(row.records[0].track).retrain
    models = [key for r in row.finished if (key := r.evaluation if given else r.artifact)]
    return len(set(models)) == len(models)


def exact(column: Column, records: Sequence[Record]) -> tuple[float, float] | None:
    """The exact interval of a share (in percent) or a count over all that these records counted.

    Where a track's seeds are measured on samples of their own (pictures made from other latents), those of all seeds count;
    where they share samples (a test set), as many as one seed has, with the mean share of hits.
    """
    if not records or not all(column.key in record.counts for record in records):
        return None
    if column.unit != "%" and len({record.counts[column.key][1] for record in records}) > 1:
        return None
    fresh = layout(records[0].track).fresh
    once = {record.evaluation or number: record for number, record in enumerate(records)}.values()  # not the same again
    samples: dict[int | None, list[list[int]]] = {}
    for record in once:
        samples.setdefault(record.seeds.get("eval") if fresh else None, []).append(record.counts[column.key])
    hits, n = (sum(sum(pair[i] for pair in own) / len(own) for own in samples.values()) for i in (0, 1))
    size = math.floor(n)
    low, high = clopper_pearson(min(math.floor(hits), size), size)[0], clopper_pearson(min(math.ceil(hits), size), size)[1]
    scale = 1.0 if column.unit == "%" else records[0].counts[column.key][1] / 100
    return low * scale, high * scale
