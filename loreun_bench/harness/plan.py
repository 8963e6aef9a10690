"""The plan of a sweep: its cells, and the stages they need, each once, in an order that respects their inputs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loreun_bench import beside
from loreun_bench.errors import UserError
from loreun_bench.harness.cache import Found, look_up
from loreun_bench.harness.records import Record, encode
from loreun_bench.harness.stage import Stage
from loreun_bench.harness.unseen import unseen
from loreun_bench.plugins import undisturbed
from loreun_bench.registry import homes, track

if TYPE_CHECKING:
    from loreun_bench.config import SweepConfig
    from loreun_bench.harness.store import Artifact, Store


@dataclass(frozen=True)
class Cell:
    """One row of the results: the record to be filled in, the stage that makes the model, the one that measures it. A cell
    over seeds, whose record has none, has no model of its own."""

    record: Record
    model: Stage | None
    evaluation: Stage


@dataclass(frozen=True)
class Plan:
    """Cells, and their stages in topological order; `notes` says what was left out and why; partial: it is a shard."""

    cells: tuple[Cell, ...]
    stages: tuple[Stage, ...]
    notes: tuple[str, ...] = ()
    partial: bool = False


@dataclass(frozen=True)
class Forecast:
    """A planned stage: whether its artifact is there already, the seconds it took or will take if a rate is known, and
    which of the user's files have changed since it was made."""

    stage: Stage
    cached: bool
    seconds: float | None
    changed: tuple[str, ...] = ()


def build(config: SweepConfig) -> Plan:
    """The plan of a checked configuration. UserError if the data cannot serve it."""
    _, planner = track(config.track)
    with undisturbed():  # a planner tries what the user brings
        cells, notes = planner(config)
        _check_rows(cells)
        stages = tuple(_ordered(cells))
    for together in {stage.plugins for stage in stages}:
        beside.check(homes(together))
    plugins = tuple(dict.fromkeys(path for stage in stages for path in stage.plugins))
    return Plan(tuple(cells), stages, tuple(dict.fromkeys([*notes, *unseen(plugins)])))  # each note once


def _check_rows(cells: Iterable[Cell]) -> None:
    """UserError if two rows of one table would have the same name, as each would count as the other's, or if a record could
    not say what they have in common."""
    seen, encoded = set(), set[int]()
    for r in (cell.record for cell in cells):
        if id(r.conditions) not in encoded:
            encoded.add(id(r.conditions))
            try:
                encode(r)
            except ValueError as error:
                raise UserError(f"{r.scenario}: a record could not hold these settings: {error}") from error
        key = r.scenario, r.method, r.weighting, tuple(sorted(r.seeds.items()))
        if key in seen:
            raise UserError(f"{r.scenario}: two rows are called {r.method} {r.weighting}: rename one of the two methods")
        seen.add(key)


def shard(plan: Plan, which: str) -> Plan:
    """The part "k/n" of a plan: every n-th of its cells, from the k-th on, and what they need. Cells over seeds, which need
    all, are left to a sweep of the whole. UserError if there is no such part."""
    k, _, n = which.partition("/")
    if not (k.isdecimal() and n.isdecimal() and 1 <= int(k) <= int(n)):
        raise UserError(f"--shard {which}: give k/n, the k-th of n parts, as 1/8")
    single = [cell for cell in plan.cells if cell.record.seeds]
    cells = tuple(single[int(k) - 1 :: int(n)])
    if not cells:
        raise UserError(f"--shard {which}: the sweep has {len(single)} cells, so at most as many parts")
    return Plan(cells, tuple(_ordered(cells)), plan.notes, partial=True)


def closure(stage: Stage) -> set[str]:
    """The recipes of a stage and of all that it needs."""
    found, waiting = set(), [stage]
    while waiting:
        one = waiting.pop()
        if one.recipe not in found:
            found.add(one.recipe)
            waiting += one.inputs.values()
    return found


def forecast(plan: Plan, store: Store) -> list[Forecast]:
    """Which stages are cached, and what the others will cost at the rate the cached ones of their kind ran at; those that
    count no samples as long as these took. None where there is none."""
    there = _look(plan, store)
    found = {r: float(each.artifact.manifest["seconds"]) for r, each in there.items() if each.artifact is not None}
    rates: dict[tuple[str, bool], list[float]] = {}
    for stage in plan.stages:
        if stage.recipe in found:
            rates.setdefault(_kind(stage), []).append(found[stage.recipe] / (stage.work or 1))
    return [
        Forecast(
            s, s.recipe in found, found.get(s.recipe, _guess(s, rates.get(_kind(s)))),
            there[s.recipe].changed if s.recipe in there else (),
        )
        for s in plan.stages
    ]  # fmt: skip


def artifacts(plan: Plan, store: Store) -> dict[str, Artifact]:
    """The artifacts that the store has of a plan's stages, by recipe."""
    return {recipe: each.artifact for recipe, each in _look(plan, store).items() if each.artifact is not None}


def _look(plan: Plan, store: Store) -> dict[str, Found]:
    """What the store has of the stages whose inputs it has, by recipe."""
    found: dict[str, Found] = {}
    digests: dict[str, str] = {}
    for stage in plan.stages:
        if all(upstream.recipe in digests for upstream in stage.inputs.values()):
            base = stage.key({name: digests[s.recipe] for name, s in stage.inputs.items()})
            found[stage.recipe] = look_up(store, stage, base, verify=False)
            if (artifact := found[stage.recipe].artifact) is not None:
                digests[stage.recipe] = artifact.digest
    return found


def _guess(stage: Stage, rates: list[float] | None) -> float | None:
    return (stage.work or 1) * sum(rates) / len(rates) if rates else None


def _kind(stage: Stage) -> tuple[str, bool]:
    """What it runs, and whether it counts samples."""
    return stage.run, bool(stage.work)


def _ordered(cells: Iterable[Cell]) -> Iterable[Stage]:
    seen: set[str] = set()

    def visit(stage: Stage) -> Iterable[Stage]:
        if stage.recipe in seen:
            return
        seen.add(stage.recipe)
        for upstream in stage.inputs.values():
            yield from visit(upstream)
        yield stage

    for cell in cells:
        yield from visit(cell.evaluation)
