"""The leaderboard as data: groups of comparable rows, each cell an estimate with its gap to the matched Retrain."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from loreun_bench.harness.records import Record
from loreun_bench.registry import registry
from loreun_bench.report import marks
from loreun_bench.report.cells import RTE, fill
from loreun_bench.report.group import Group
from loreun_bench.report.layout import layout
from loreun_bench.report.rows import REFERENCES, Cell, Column, Row, Seeds, named, seeds_of
from loreun_bench.report.statistics.standing import standings
from loreun_bench.report.text import count

__all__ = ["REFERENCES", "Cell", "Column", "Group", "Row", "build", "columns", "named"]
DATA, FOLLOWS = "data", ("normalised by", "pictures")  # of other data, these are no news
Found = dict[tuple[str, str, str], list[Record]]  # by run, method, weighting


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

    sort: a column's key, by default the track's (see `layout`). Rows with failed or missing seeds come after complete ones,
    references first. Where the runs of a group have other seeds, those are compared that all of them have.
    """
    groups: dict[tuple[str, ...], Found] = {}
    over: dict[tuple[str, ...], dict[tuple[str, str, str], Record]] = {}
    metrics: dict[str, set[str]] = {}
    for run, records in runs:
        for r in records:
            metrics.setdefault(r.track, set()).update(r.metrics)
            compared = json.dumps([r.limits, r.conditions], sort_keys=True)
            key, row = (r.track, r.dataset, r.model, r.scenario, r.protocol, compared), (run, r.method, r.weighting)
            if r.seeds:
                groups.setdefault(key, {}).setdefault(row, []).append(r)
            else:
                over.setdefault(key, {})[row] = r
    made = [_group(key, rows, over.get(key, {}), sort, metrics[key[0]]) for key, rows in groups.items()]
    _tell_apart(made)
    return made


def _group(
    key: tuple[str, ...], found: Found, over: Mapping[tuple[str, str, str], Record], sort: str | None, metrics: set[str]
) -> Group:
    usual = layout(key[0])
    shown = columns(key[0], () if usual.retrain else metrics)
    by_run, seeds, apart = _seeds(found)
    rows = []
    for (run, method, weighting), records in found.items():
        own = [record for record in records if seeds_of(record) in by_run[run]]
        if own:
            rows.append(Row(method, weighting, run, own, len(by_run[run]), over=over.get((run, method, weighting))))
    track, dataset, model, scenario, protocol, _ = key
    one = rows[0].records[0]
    group = Group(track, dataset, model, scenario, protocol, rows, one.limits, shown, one.conditions, seeds, apart)
    for row in rows:
        fill(row, group, shown)
    marks.mark(group)
    orders = named([*shown, RTE], ["rte_s" if sort == "rte" else sort]) if sort else _orders(usual.sort, shown, rows)
    rows.sort(key=lambda row: _rank(row, orders))
    group.standings = standings(group, orders)
    return group


def _orders(sort: Sequence[str], known: Sequence[Column], rows: Sequence[Row]) -> list[Column]:
    """The columns that rank rows, of those in which any has a value."""
    there = {column.key: column for column in known if any(row.values[column.key] for row in rows)}
    found = (next((there[key] for key in keys.split("|") if key in there), None) for keys in sort)
    return [column for column in found if column is not None]


def _seeds(found: Found) -> tuple[dict[str, set[Seeds]], str, bool]:
    """(the seeds of each run that are shown, what to say of them, whether runs have none in common)."""
    by_run: dict[str, set[Seeds]] = {}
    for (run, _, _), records in found.items():
        by_run.setdefault(run, set()).update(map(seeds_of, records))
    every, common = set().union(*by_run.values()), set.intersection(*by_run.values())
    if len(every) == len(common):
        return by_run, count(len(common), "seed"), False
    if common:
        names = ", ".join(_name(seed) for seed in sorted(common))
        return dict.fromkeys(by_run, common), f"{count(len(common), 'seed')} ({names}: those that all runs have)", False
    each = ", ".join(f"{count(len(own), 'seed')} of {run}" for run, own in by_run.items())
    return by_run, f"{each}, none in common, so that runs are not compared", True


def _name(seed: Seeds) -> str:
    values = {value for _, value in seed}
    return str(values.pop()) if len(values) == 1 else "/".join(f"{name} {value}" for name, value in seed)


def _tell_apart(groups: Sequence[Group]) -> None:
    """Groups of one title say of which runs they are and what differs."""
    by_title: dict[str, list[Group]] = {}
    for group in groups:
        by_title.setdefault(group.title, []).append(group)
    for same in (own for own in by_title.values() if len(own) > 1):
        for group, words in zip(same, differences([group.conditions for group in same]), strict=True):
            runs = " and ".join(dict.fromkeys(row.run for row in group.rows))
            group.differs = f"{runs}: {words}"


def differences(conditions: Sequence[Mapping[str, Any]]) -> list[str]:
    """What sets each of several conditions apart from the others, in words."""
    told = [_flat(each) for each in conditions]
    keys = [key for key in dict.fromkeys(k for own in told for k in own) if len({own.get(key) for own in told}) > 1]
    if DATA in keys:
        keys = [key for key in keys if key not in FOLLOWS]
    return [", ".join(f"{key} {own.get(key, 'default')}" for key in keys) if own else "data not recorded" for own in told]


def _flat(conditions: Mapping[str, Any]) -> dict[str, str]:
    """Conditions in words, those within one another one by one."""
    found: dict[str, str] = {}
    for key, value in conditions.items():
        inner = _flat(value) if isinstance(value, dict) else {"": str(value)}
        found |= {f"{key} {name}".strip(): text for name, text in inner.items()}
    return found


def _rank(row: Row, orders: Sequence[Column]) -> tuple[int, bool, list[float], str]:
    reference = REFERENCES.index(row.method) if row.method in REFERENCES else len(REFERENCES)
    distances = [marks.distance(order, row.cells[order.key]) for order in orders]
    return (reference, not row.complete, distances, f"{row.method} {row.weighting}")
