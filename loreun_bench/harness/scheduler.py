"""Runs a plan: hands ready stages to the engine, skips what the store has, records each cell as it ends."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loreun_bench.harness import environment, progress, records
from loreun_bench.harness.cache import Found, look_up, outdated
from loreun_bench.harness.engines import Engine
from loreun_bench.harness.files import write_atomic
from loreun_bench.harness.files_used import plugin_digests
from loreun_bench.harness.plan import Cell, Plan, closure
from loreun_bench.harness.records import Record
from loreun_bench.harness.stage import Stage
from loreun_bench.harness.store import Artifact, Store
from loreun_bench.harness.work import Outcome, Task, classify
from loreun_bench.registry import origins

TICK = 1.0  # seconds between two looks at what is running


@dataclass(frozen=True)
class Event:
    """What a listener hears: a stage "started", "cached", "running" (and how far it is), "finished", to be run "again" or
    "skipped" because every cell that wants it has failed; a "record" that was written; or a "note" in words."""

    kind: str
    stage: Stage | None = None
    outcome: Outcome | None = None
    record: Record | None = None
    share: float = 0.0
    text: str = ""


class DiskFull(Exception):
    """The disk filled up; what was finished is kept, and the same command goes on from there."""


def run(
    plan: Plan, engine: Engine, store: Store, out: Path, device: str, listen: Callable[[Event], None], fresh: bool = False
) -> list[Record]:
    """Run all of `plan` and return its records, old and new, in the plan's order. The caller closes the engine.

    fresh: make every artifact anew; each old one stays until the new one is whole.
    """
    return _Run(plan, engine, store, out, device, listen, fresh).run()


class _Run:
    def __init__(
        self, plan: Plan, engine: Engine, store: Store, out: Path, device: str, listen: Callable[[Event], None], fresh: bool
    ) -> None:
        self.plan, self.engine, self.store, self.device, self.listen = plan, engine, store, device, listen
        self.out, self.journal, self.fresh = out, out / "records.jsonl", fresh
        self.old = {r.cell: r for r in records.load_records(out)} if self.journal.is_file() else {}
        self.artifacts: dict[str, Artifact] = {}  # by recipe
        self.failures: dict[str, Outcome] = {}
        self.bases: dict[str, str] = {}  # the stages' own keys, under which they say how far they are
        self.keys: dict[str, str] = {}  # their artifacts'
        self.traces: dict[str, str] = {}  # the files with the tracebacks of those that failed
        self.told: set[str] = set()
        self.reused: list[str] = []  # the versions of cached results, where they are others
        self.running: dict[Future[Outcome], Stage] = {}
        self.results: dict[tuple[Any, ...], Record] = {}
        self.waiting = list(plan.stages)
        self.retried: set[str] = set()
        self.made: set[str] = set()  # in this run
        self.needs = {cell.record.cell: closure(cell.evaluation) for cell in plan.cells}

    def run(self) -> list[Record]:
        self._tell_other_data()
        open_cells = list(self.plan.cells)
        while self.waiting or self.running:
            self.waiting = [stage for stage in self.waiting if not self._advance(stage)]
            open_cells = [cell for cell in open_cells if not self._close(cell)]
            if self.running:
                for future in self._wait():
                    self._finish(self.running.pop(future), future.result())
        for cell in open_cells:
            self._close(cell)
        self._tell()
        return [self.results[cell.record.cell] for cell in self.plan.cells]

    def _tell_other_data(self) -> None:
        """Say what was otherwise when the run folder had its rows: of one configuration, what the user's own files hold."""
        pairs = [(cell.record, self.old.get(cell.record.cell)) for cell in self.plan.cells]
        both = [(new.conditions, old.conditions) for new, old in pairs if old is not None and old.conditions]
        other = {name for new, old in both for name in new.keys() | old.keys() if new.get(name) != old.get(name)}
        if other:
            names = ", ".join(sorted(other))
            self.listen(Event("note", text=f"changed since the last run in {self.out}: {names}; its rows are made again"))

    def _wait(self) -> set[Future[Outcome]]:
        """The tasks that finish next; meanwhile listeners hear how far the running ones are."""
        while True:
            finished, running = wait(self.running, TICK, FIRST_COMPLETED)
            if finished:
                return finished
            for stage in [self.running[future] for future in running]:
                share = progress.read(self.store.progress_file(self.bases[stage.recipe]))
                self.listen(Event("running", stage, share=share))

    def _advance(self, stage: Stage) -> bool:
        """Settle or start `stage` if its inputs are settled; False if it must wait."""
        if self.failures and all(self._why(needs) for needs in self.needs.values() if stage.recipe in needs):
            self.listen(Event("skipped", stage))
            return True
        if any(upstream.recipe not in self.artifacts for upstream in stage.inputs.values()):
            return False
        full = len(self.running) >= self.engine.capacity()
        if full and stage.recipe in self.bases:
            return False  # it was looked up when it could have started, and is again when it can
        base = stage.key({name: self.artifacts[s.recipe].digest for name, s in stage.inputs.items()})
        self.bases[stage.recipe] = base
        anew = self.fresh and stage.recipe not in self.made
        found = Found(None) if anew else look_up(self.store, stage, base)
        if found.artifact is not None:
            self._take(stage, found.artifact)
            return True
        if full:
            return False
        if new := [words for words in found.changed if words not in self.told]:
            self.told |= set(new)
            self.listen(Event("note", text=f"{', '.join(new)}: what used it is made again"))
        self._start(stage, base, anew)
        return True

    def _take(self, stage: Stage, artifact: Artifact) -> None:
        """Use what the store has."""
        self.keys[stage.recipe], self.artifacts[stage.recipe] = str(artifact.manifest["key"]), artifact
        made = artifact.manifest.get("versions") or artifact.manifest.get("environment", {})
        if stage.recipe not in self.made and (differ := environment.others(made)):
            self.reused.append(differ)
        self.listen(Event("cached", stage))

    def _start(self, stage: Stage, base: str, anew: bool) -> None:
        inputs = {name: self.keys[s.recipe] for name, s in stage.inputs.items()}
        own = (origins(stage.plugins), plugin_digests(stage)) if stage.plugins else ((), {})
        task = Task(stage, base, inputs, self.store.root, self.device, *own, replace=anew)
        self.running[self.engine.submit(task)] = stage
        self.listen(Event("started", stage))

    def _why(self, recipes: set[str]) -> str | None:
        """The recipe of the first that failed among the stages that a cell needs."""
        return next((recipe for recipe in self.failures if recipe in recipes), None)

    def _keep_trace(self, stage: Stage, trace: str) -> None:
        """Keep what a failed stage raised, whole, in the run folder."""
        if not trace:
            return
        label = re.sub(r"[^A-Za-z0-9.+%-]+", "-", stage.label or stage.run).strip("-")[:80]
        name = f"errors/{label}-{stage.recipe[:8]}.txt"
        with contextlib.suppress(OSError):
            write_atomic(self.out / name, f"{stage.label}\n\n{trace}")
            self.traces[stage.recipe] = name

    def _tell(self) -> None:
        """What there is to say of the whole sweep: files that changed under way, results of other versions. Tracebacks of
        earlier runs go."""
        for path in set((self.out / "errors").glob("*.txt")) - {self.out / name for name in self.traces.values()}:
            path.unlink(missing_ok=True)
        stages = [stage for stage in self.plan.stages if stage.plugins and stage.recipe in self.artifacts]
        late = {words for stage in stages for words in outdated(stage, self.artifacts[stage.recipe])}
        if late:
            self.listen(Event("note", text=f"{', '.join(sorted(late))} while the sweep ran: run the same command again"))
        if self.reused:
            made = "; ".join(dict.fromkeys(self.reused))
            self.listen(Event("note", text=f"{len(self.reused)} results were made with {made}: `--fresh` makes them anew"))

    def _finish(self, stage: Stage, outcome: Outcome) -> None:
        if outcome.lost and stage.recipe not in self.retried:
            self._again(stage)
            return
        artifact = self.store.find(outcome.key) if outcome.status == "ok" else None
        if artifact is not None:
            self.keys[stage.recipe], self.artifacts[stage.recipe] = outcome.key, artifact
            self.made.add(stage.recipe)
        else:
            lost = Outcome("failed", "its artifact is not in the store", outcome.seconds)
            self.failures[stage.recipe] = outcome if outcome.status != "ok" else lost
            self._keep_trace(stage, outcome.trace)
        self.listen(Event("finished", stage, outcome, text=self.traces.get(stage.recipe, "")))
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
            outcome = self.failures[failure]
            return replace(cell.record, status=outcome.status, reason=outcome.reason, trace=self.traces.get(failure, ""))
        evaluation = self.artifacts.get(cell.evaluation.recipe)
        if evaluation is None or (cell.model is not None and cell.model.recipe not in self.artifacts):
            return None
        measured = evaluation.values()
        record = replace(
            cell.record,
            metrics=measured["metrics"],
            environment=evaluation.manifest["environment"],
            counts=measured.get("counts", {}),
            uninformative=measured.get("uninformative", []),
            null=measured.get("null", {}),
            ci95=measured.get("ci95", {}),
            models=measured.get("models", 0),
            evaluation=self.keys[cell.evaluation.recipe],
        )
        return record if cell.model is None else self._with_model(record, cell.model.recipe, measured)

    def _with_model(self, record: Record, recipe: str, measured: Mapping[str, Any]) -> Record:
        """The record with what there is to say of its model."""
        model = self.artifacts[recipe]
        return replace(
            record,
            cost=model.manifest["cost"],
            backend=model.manifest["backend"],
            environment=model.manifest["environment"] | measured.get("environment", {}),
            weights=model.values().get("weights", {}),
            artifact=self.keys[recipe],
        )
