"""Runs a plan: hands ready stages to the engine, skips what the store has, records each cell as it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loreun_bench.harness import progress, records
from loreun_bench.harness.engines import Engine
from loreun_bench.harness.plan import Cell, Plan, closure
from loreun_bench.harness.records import Record
from loreun_bench.harness.stage import Stage
from loreun_bench.harness.store import Artifact, Store
from loreun_bench.harness.work import Outcome, Task, classify

TICK = 1.0  # seconds between two looks at what is running


@dataclass(frozen=True)
class Event:
    """What a listener hears: a stage "started", "cached", "running" (and how far it is), "finished", to be run "again" or
    "skipped" because every cell that wants it has failed; or a "record" that was written."""

    kind: str
    stage: Stage | None = None
    outcome: Outcome | None = None
    record: Record | None = None
    share: float = 0.0


class DiskFull(Exception):
    """The disk filled up; what was finished is kept, and the same command goes on from there."""


def run(plan: Plan, engine: Engine, store: Store, out: Path, device: str, listen: Callable[[Event], None]) -> list[Record]:
    """Run all of `plan` and return its records, old and new, in the plan's order. The caller closes the engine."""
    return _Run(plan, engine, store, out, device, listen).run()


class _Run:
    def __init__(
        self, plan: Plan, engine: Engine, store: Store, out: Path, device: str, listen: Callable[[Event], None]
    ) -> None:
        self.plan, self.engine, self.store, self.device, self.listen = plan, engine, store, device, listen
        self.journal = out / "records.jsonl"
        self.old = {r.cell: r for r in records.load_records(out)} if self.journal.is_file() else {}
        self.artifacts: dict[str, Artifact] = {}  # by recipe
        self.failures: dict[str, Outcome] = {}
        self.keys: dict[str, str] = {}
        self.running: dict[Future[Outcome], Stage] = {}
        self.results: dict[tuple[Any, ...], Record] = {}
        self.waiting = list(plan.stages)
        self.retried: set[str] = set()
        self.needs = {cell.record.cell: closure(cell.evaluation) for cell in plan.cells}

    def run(self) -> list[Record]:
        open_cells = list(self.plan.cells)
        while self.waiting or self.running:
            self.waiting = [stage for stage in self.waiting if not self._advance(stage)]
            open_cells = [cell for cell in open_cells if not self._close(cell)]
            if self.running:
                for future in self._wait():
                    self._finish(self.running.pop(future), future.result())
        for cell in open_cells:
            self._close(cell)
        return [self.results[cell.record.cell] for cell in self.plan.cells]

    def _wait(self) -> set[Future[Outcome]]:
        """The tasks that finish next; meanwhile listeners hear how far the running ones are."""
        while True:
            finished, running = wait(self.running, TICK, FIRST_COMPLETED)
            if finished:
                return finished
            for stage in [self.running[future] for future in running]:
                share = progress.read(self.store.progress_file(self.keys[stage.recipe]))
                self.listen(Event("running", stage, share=share))

    def _advance(self, stage: Stage) -> bool:
        """Settle or start `stage` if its inputs are settled; False if it must wait."""
        if self.failures and all(self._why(needs) for needs in self.needs.values() if stage.recipe in needs):
            self.listen(Event("skipped", stage))
            return True
        if any(upstream.recipe not in self.artifacts for upstream in stage.inputs.values()):
            return False
        key = stage.key({name: self.artifacts[s.recipe].digest for name, s in stage.inputs.items()})
        self.keys[stage.recipe] = key
        artifact = self.store.verified(key)
        if artifact is not None:
            self.artifacts[stage.recipe] = artifact
            self.listen(Event("cached", stage))
            return True
        if len(self.running) >= self.engine.capacity():
            return False
        inputs = {name: self.keys[s.recipe] for name, s in stage.inputs.items()}
        self.running[self.engine.submit(Task(stage, key, inputs, self.store.root, self.device))] = stage
        self.listen(Event("started", stage))
        return True

    def _why(self, recipes: set[str]) -> Outcome | None:
        """The first failure among the stages that a cell needs."""
        return next((outcome for recipe, outcome in self.failures.items() if recipe in recipes), None)

    def _finish(self, stage: Stage, outcome: Outcome) -> None:
        if outcome.lost and stage.recipe not in self.retried:
            self._again(stage)
            return
        artifact = self.store.find(self.keys[stage.recipe])
        if outcome.status == "ok" and artifact is not None:
            self.artifacts[stage.recipe] = artifact
        else:
            lost = Outcome("failed", "its artifact is not in the store", outcome.seconds)
            self.failures[stage.recipe] = outcome if outcome.status != "ok" else lost
        self.listen(Event("finished", stage, outcome))
        if outcome.status == "disk_full":
            raise DiskFull(f"no space left under {self.store.root}: free some and run the same command again")

    def _again(self, stage: Stage) -> None:
        """Make anew what a stage lacked of its inputs, and then the stage, once."""
        self.retried.add(stage.recipe)
        lost = [upstream for upstream in stage.inputs.values() if self.store.verified(self.keys[upstream.recipe]) is None]
        for upstream in lost:
            self.artifacts.pop(upstream.recipe, None)
        busy = {other.recipe for other in (*self.waiting, *self.running.values())}  # another stage may have lost the same
        self.waiting += [one for one in (*lost, stage) if one.recipe not in busy]
        self.listen(Event("again", stage))

    def _close(self, cell: Cell) -> bool:
        """Write the cell's record if its outcome is known; False if it is not."""
        record = self._record(cell)
        if record is None:
            return False
        try:
            records.encode(record)
        except ValueError as error:  # too large, or a value that no table could hold
            record = replace(record, status="failed", reason=str(error), metrics={}, counts={}, uninformative=[])
        self.results[record.cell] = record
        if self.old.get(record.cell) != record:
            self._append(record)
            self.old[record.cell] = record
        self.listen(Event("record", record=record))
        return True

    def _append(self, record: Record) -> None:
        try:
            records.append(self.journal, [record])
        except OSError as error:
            if classify(error) != "disk_full":
                raise
            raise DiskFull(f"no space left under {self.journal.parent}: free some and run the same command again") from error

    def _record(self, cell: Cell) -> Record | None:
        failure = self._why(self.needs[cell.record.cell])
        if failure is not None:
            return replace(cell.record, status=failure.status, reason=failure.reason)
        evaluation, model = (self.artifacts.get(stage.recipe) for stage in (cell.evaluation, cell.model))
        if evaluation is None or model is None:
            return None
        manifest: Mapping[str, Any] = model.manifest
        measured = evaluation.values()
        return replace(
            cell.record,
            metrics=measured["metrics"],
            cost=manifest["cost"],
            backend=manifest["backend"],
            environment=manifest["environment"] | measured.get("environment", {}),
            counts=measured.get("counts", {}),
            uninformative=measured.get("uninformative", []),
            artifact=self.keys[cell.model.recipe],
            evaluation=self.keys[cell.evaluation.recipe],
        )
