"""The plan of a sweep: its cells, and the stages they need, each once, in an order that respects their inputs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loreun_bench.harness.records import Record
from loreun_bench.harness.stage import Stage
from loreun_bench.registry import track

if TYPE_CHECKING:
    from loreun_bench.config import SweepConfig
    from loreun_bench.harness.store import Artifact, Store


@dataclass(frozen=True)
class Cell:
    """One row of the results: the record to be filled in, the stage that makes the model, the one that measures it."""

    record: Record
    model: Stage
    evaluation: Stage


@dataclass(frozen=True)
class Plan:
    """Cells, and their stages in topological order; `notes` says what was left out and why."""

    cells: tuple[Cell, ...]
    stages: tuple[Stage, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Forecast:
    """A planned stage: whether its artifact is there already, and the seconds it took or will take if a rate is known."""

    stage: Stage
    cached: bool
    seconds: float | None


def build(config: SweepConfig) -> Plan:
    """The plan of a checked configuration. UserError if the data cannot serve it."""
    _, planner = track(config.track)
    cells, notes = planner(config)
    return Plan(tuple(cells), tuple(_ordered(cells)), tuple(notes))


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
    """Which stages are cached, and what the others will cost at the rate the cached ones of their kind ran at."""
    there = artifacts(plan, store)
    found = {recipe: float(artifact.manifest["seconds"]) for recipe, artifact in there.items()}
    rates: dict[str, list[float]] = {}
    for stage in plan.stages:
        if stage.work and stage.recipe in found:
            rates.setdefault(stage.run, []).append(found[stage.recipe] / stage.work)
    return [Forecast(s, s.recipe in found, found.get(s.recipe, _guess(s, rates.get(s.run)))) for s in plan.stages]


def artifacts(plan: Plan, store: Store) -> dict[str, Artifact]:
    """The artifacts that the store has of a plan's stages, by recipe."""
    found: dict[str, Artifact] = {}
    for stage in plan.stages:
        if all(upstream.recipe in found for upstream in stage.inputs.values()):
            artifact = store.find(stage.key({name: found[s.recipe].digest for name, s in stage.inputs.items()}))
            if artifact is not None:
                found[stage.recipe] = artifact
    return found


def _guess(stage: Stage, rates: list[float] | None) -> float | None:
    return stage.work * sum(rates) / len(rates) if rates else None


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
