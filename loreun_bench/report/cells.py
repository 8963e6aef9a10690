"""What a cell of a table holds: a value over seeds, its interval, its distance to the Retrain of the same seeds."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace

from loreun_bench.harness.records import Record
from loreun_bench.harness.shares import clopper_pearson
from loreun_bench.registry import blamed
from loreun_bench.report.layout import layout
from loreun_bench.report.rows import Cell, Column, Row
from loreun_bench.report.stats import Estimate, estimate, mean

Pair = tuple[Record, Record | None]  # a record and its Retrain


def fill(row: Row, rows: Sequence[Row], shown: Sequence[Column]) -> None:
    """A row's cells, its time, and its time's ratio to the unweighted method."""
    pairs = [(r, partner(r, rows, row.run, "Retrain")) for r in row.finished]
    theirs = {key for _, base in pairs if base is not None for key in base.uninformative}
    for column in shown:
        make = _derived if column.derived else _stored
        row.cells[column.key] = make(column, pairs, row.uninformative, theirs)
    row.seconds = estimate([r.cost.get("rte_s", math.nan) for r in row.finished])
    bases = [(r, partner(r, rows, row.run, row.method)) for r in row.finished]
    times = [(r.cost.get("rte_s", math.nan), base.cost.get("rte_s", math.nan)) for r, base in bases if base is not None]
    if times and sum(base for _, base in times) > 0:
        row.ratio = sum(own for own, _ in times) / sum(base for _, base in times)


def partner(record: Record, rows: Sequence[Row], run: str, method: str) -> Record | None:
    """The finished record of the unweighted `method` in the same run with the same seeds."""
    for row in rows:
        if (row.run, row.method, row.weighting) == (run, method, "none"):
            return next((r for r in row.finished if r.seeds == record.seeds), None)
    return None


def _stored(column: Column, pairs: Sequence[Pair], own: Collection[str], theirs: Collection[str]) -> Cell:
    """own, theirs: what says nothing in the row, and in its Retrain."""
    key = column.key
    records = [r for r, _ in pairs if key in r.metrics]
    found = replace(_independent(column, [r.metrics[key] for r in records], pairs), exact=exact(column, records))
    if key in own:
        return Cell(found, uninformative=True)
    gaps = [
        r.metrics[key] - base.metrics[key]
        for r, base in pairs
        if base is not None and key in r.metrics and key in base.metrics
    ]
    if not gaps or column.best != "retrain" or key in theirs:
        return Cell(found)
    return Cell(found, mean(gaps), mean([abs(gap) for gap in gaps]))


def _derived(column: Column, pairs: Sequence[Pair], own: Collection[str], theirs: Collection[str]) -> Cell:
    assert column.entry is not None
    silent = {*own, *theirs}
    values, lacks = [], set()
    for record, base in pairs:
        if base is None:
            continue
        cell, retrain = ({k: v for k, v in r.metrics.items() if k not in silent} for r in (record, base))
        with blamed(column.entry.file, f"metric '{column.entry.name}'"):
            try:
                values.append(float(column.entry.item(cell, retrain)))
            except KeyError:  # one that it reads was not measured, or says nothing
                continue
        lacks |= {key for key in column.entry.info["optional"] if key not in cell or key not in retrain}
    return Cell(_independent(column, values, pairs), lacks=frozenset(lacks))


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


def _independent(column: Column, values: Sequence[float], pairs: Sequence[Pair]) -> Estimate:
    """The estimate; without an interval if seeds share one model, whose equal values say nothing about its spread.

    The original of a track that retrains nothing came as it is, and is measured on pictures of its own for every seed.
    """
    given = [r.method == "Original" and not layout(r.track).retrain for r, _ in pairs]
    models = [key for (r, _), own in zip(pairs, given, strict=True) if (key := r.evaluation if own else r.artifact)]
    found = estimate(values, column.span)
    return found if len(set(models)) == len(models) else replace(found, half=math.nan)
