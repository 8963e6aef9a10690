"""Whether a run's numbers are what its stored models give: weights by hash, metrics computed again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loreun_bench.config import SweepConfig
from loreun_bench.harness import environment
from loreun_bench.harness.plan import Cell, artifacts, build
from loreun_bench.harness.records import Record
from loreun_bench.harness.store import Artifact, Corrupt, Store, default_root


@dataclass
class Verified:
    """What was found of a run's finished records.

    lost: whose model the store has not got, or not with the bytes that its hash says. again: how many had their metrics
    computed again; equal: whose are the same to the last digit; differing: in words, of the others. unlike: what of it was
    made by other code, settings or data than there are now, so that nothing can be computed again. environments: where the
    run and this machine differ, in words.
    """

    lost: list[Record] = field(default_factory=list)
    whole: list[Record] = field(default_factory=list)
    again: int = 0
    equal: list[Record] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    unlike: list[Record] = field(default_factory=list)
    environments: list[str] = field(default_factory=list)


def verify(
    config: SweepConfig, records: Sequence[Record], cells: int | None, listen: Callable[[int, int], None]
) -> Verified:
    """Check the finished records of a sweep. cells: how many to compute again, spread over all; None: every one. listen:
    told how many are done, and of how many."""
    import torch

    store, found = Store(default_root()), Verified()
    finished = [record for record in records if record.status == "ok"]
    for record in finished:
        kept = record.artifact if record.seeds else record.evaluation  # a cell over seeds has no model
        (found.whole if kept and store.verified(kept) else found.lost).append(record)
    plan = build(config)
    there, planned = artifacts(plan, store), {cell.record.cell: cell for cell in plan.cells}
    again = _spread([record for record in found.whole if _made_by_this(planned.get(record.cell), there)], cells)
    found.unlike = [record for record in found.whole if not _made_by_this(planned.get(record.cell), there)]
    found.again = len(again)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a sweep's processes
    try:
        for done, record in enumerate(again):
            listen(done, len(again))
            differing = _compared(record, planned[record.cell], there, config.device)
            found.differing += differing
            found.equal += [] if differing else [record]
    finally:
        torch.set_num_threads(threads)
    found.environments = _environments(finished, config.device)
    return found


def _made_by_this(cell: Cell | None, there: dict[str, Artifact]) -> bool:
    """Whether the store has a cell's evaluation as this code makes it, its model and all inputs."""
    if cell is None:
        return False
    own = [cell.model] if cell.model is not None else []
    return all(stage.recipe in there for stage in (*own, cell.evaluation, *cell.evaluation.inputs.values()))


def _spread(records: Sequence[Record], most: int | None) -> list[Record]:
    if most is None or most >= len(records):
        return list(records)
    return [records[k * len(records) // most] for k in range(most)]


def _compared(record: Record, cell: Cell, there: dict[str, Artifact], device: str) -> list[str]:
    """Where a record's metrics are not those that are computed now."""
    stage = cell.evaluation
    name = f"{record.scenario}, {record.method} {record.weighting}, seed {record.seeds.get('unlearn', 'all')}"
    inputs = {key: there[upstream.recipe] for key, upstream in stage.inputs.items()}
    try:
        found = stage.function()(stage.config, inputs, device).values
    except Corrupt as error:
        return [f"{name}: {error}"]
    key, cost = "", dict[str, float]()
    if cell.model is not None:
        model = there[cell.model.recipe]
        key, cost = model.key, model.cost
    more = _over_seeds(found.get("null", {}), found.get("ci95", {}))
    now = _told(key, found["metrics"] | more, found["counts"], found["uninformative"], cost)
    more = _over_seeds(record.null, record.ci95)
    was = _told(record.artifact, record.metrics | more, record.counts, record.uninformative, record.cost)
    keys = [key for key in {**was, **now} if was.get(key) != now.get(key)]
    return [f"{name}: {key} {was.get(key)} is recorded, {now.get(key)} found" for key in keys]


def _over_seeds(null: Mapping[str, list[float]], ci95: Mapping[str, float]) -> dict[str, Any]:
    """What a cell over seeds says beside its metrics."""
    return {f"{key} null": pair for key, pair in null.items()} | {f"{key} ci95": half for key, half in ci95.items()}


def _told(
    key: str, metrics: Mapping[str, Any], counts: Mapping[str, list[int]], silent: Sequence[str], cost: Mapping[str, float]
) -> dict[str, Any]:
    """All that a record says of a model, in one dictionary."""
    counted = {f"{name} counted": list(pair) for name, pair in counts.items()}
    return {"model": key[:12], **metrics, **counted, **{f"{name} says nothing": True for name in silent}, **cost}


def _environments(records: Sequence[Record], device: str) -> list[str]:
    """What the records were made with that is not so here."""
    here, found = environment.describe(device), dict[str, set[str]]()
    for record in records:
        for key, value in record.environment.items():
            if key in here and value != here[key]:
                found.setdefault(key, set()).add(str(value))
    return [f"{key} {'/'.join(sorted(values))}, here {here[key]}" for key, values in found.items()]
