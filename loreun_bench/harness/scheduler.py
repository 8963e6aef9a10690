"""Runs a plan: hands ready stages to the engine, skips what the store has, records each cell as it ends."""

from __future__ import annotations

import contextlib
import heapq
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path

from loreun_bench.errors import UserError, plain
from loreun_bench.harness import environment, progress, results
from loreun_bench.harness.cache import Found, look_up, outdated
from loreun_bench.harness.engines import Engine
from loreun_bench.harness.files import write_atomic
from loreun_bench.harness.files_used import plugin_digests
from loreun_bench.harness.graph import Graph
from loreun_bench.harness.keeping import RunList
from loreun_bench.harness.leases import Leases
from loreun_bench.harness.plan import Plan
from loreun_bench.harness.records import Record
from loreun_bench.harness.results import Results
from loreun_bench.harness.stage import Stage
from loreun_bench.harness.store import Artifact, Corrupt, Store
from loreun_bench.harness.work import Outcome, Task, classify, failed
from loreun_bench.registry import origins

TICK = 1.0  # seconds between two looks at what is running
POLL = 0.2  # and at what another sweep makes, while there is room for more
TRIES = 4  # of a stage whose inputs or result are lost, as when the store is being deleted


@dataclass(frozen=True)
class Event:
    """What a listener hears: a stage "started", "cached", "running" (and how far it is), "finished", to be run "again",
    "elsewhere" as another sweep makes it, or "skipped" because every cell that wants it has failed; a "record" that was
    written; or a "note" in words."""

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

    fresh: make every artifact anew; each old one stays until the new one is whole. Raises DiskFull, or UserError if the
    store or the run folder cannot be written to.
    """
    try:
        with Leases(store) as leases:
            return _Run(plan, engine, leases, out, device, listen, fresh).run()
    except OSError as error:
        where = error.filename or store.root
        if classify(error) == "disk_full":
            raise DiskFull(f"no space left for {where}: free some and run the same command again") from error
        said = f"{where}: {error.strerror or error}"
        raise UserError(f"{said}: what is finished is kept; mend this and run the same command again") from error


class _Run:
    def __init__(
        self, plan: Plan, engine: Engine, leases: Leases, out: Path, device: str, listen: Callable[[Event], None],
        fresh: bool,
    ) -> None:  # fmt: skip
        self.plan, self.engine, self.leases, self.device, self.listen = plan, engine, leases, device, listen
        self.store, self.out, self.fresh = leases.store, out, fresh
        self.graph, self.results, self.uses = Graph(plan), Results(plan, out), RunList(self.store, out)
        self.artifacts: dict[str, Artifact] = {}  # by recipe, while somebody may read them
        self.keys: dict[str, str] = {}  # of all that are done
        self.digests: dict[str, str] = {}
        self.bases: dict[str, str] = {}  # the stages' own keys, under which they are leased and say how far they are
        self.missing: list[tuple[int, str]] = []  # ready and not in the store, by their place in the plan
        self.elsewhere: set[str] = set()  # which other sweeps make
        self.polled = 0.0
        self.running: dict[Future[Outcome], Stage] = {}
        self.told: set[str] = set()
        self.shares_told = time.monotonic()
        self.reused: list[str] = []  # the versions of cached results, where they are others
        self.tries: Counter[str] = Counter()
        self.made: set[str] = set()  # in this run

    def run(self) -> list[Record]:
        if self.results.damaged:
            words = f"{self.results.damaged} damaged line(s) of {self.results.journal} set aside in damaged.jsonl"
            self.listen(Event("note", text=f"{words}; their rows are made anew"))
        if other := self.results.other_conditions():
            words = ", ".join(other)
            self.listen(Event("note", text=f"changed since the last run in {self.out}: {words}; its rows are made again"))
        while True:
            self._look()
            self._start_some()
            if not self.running and not self.elsewhere:
                break
            for future in self._wait():
                self._finish(self.running.pop(future), future.result())
        self._tell()
        if not self.plan.partial:
            self.uses.whole()
        return self.results.all()

    def _look(self) -> None:
        """Take what has become ready and is in the store; note what is to be made."""
        while (stage := self.graph.pop()) is not None:
            self.bases[stage.recipe] = stage.key({name: self.digests[s.recipe] for name, s in stage.inputs.items()})
            found = self._find(stage)
            if found.artifact is not None:
                self._take(stage, found.artifact)
            else:
                heapq.heappush(self.missing, (self.graph.order[stage.recipe], stage.recipe))

    def _find(self, stage: Stage) -> Found:
        anew = self.fresh and stage.recipe not in self.made
        return Found(None) if anew else look_up(self.store, stage, self.bases[stage.recipe])

    def _room(self) -> bool:
        return len(self.running) < self.engine.capacity()

    def _start_some(self) -> None:
        """Start what there is room for, the first of the plan first."""
        if time.monotonic() - self.polled >= POLL:
            self.polled = time.monotonic()
            for recipe in list(self.elsewhere):
                if self._room():
                    self._start(self.graph.stages[recipe])
                    self._look()
        while self.missing and self._room():
            _, recipe = heapq.heappop(self.missing)
            if self.graph.wants(recipe):
                self._start(self.graph.stages[recipe])
                self._look()

    def _start(self, stage: Stage) -> None:
        """Start a stage, unless another sweep makes it, or has made it."""
        base = self.bases[stage.recipe]
        if not self.leases.take(base):
            if stage.recipe not in self.elsewhere:
                self.elsewhere.add(stage.recipe)
                self.listen(Event("elsewhere", stage))
            return
        self.elsewhere.discard(stage.recipe)
        found = self._find(stage)
        if found.artifact is not None:
            self.leases.give_back(base)
            self._take(stage, found.artifact)
            return
        if new := [words for words in found.changed if words not in self.told]:
            self.told |= set(new)
            self.listen(Event("note", text=f"{', '.join(new)}: what used it is made again"))
        try:
            inputs = {name: self._artifact(each) for name, each in stage.inputs.items()}
        except Corrupt as error:
            self._finish(stage, failed(error))
            return
        own = (origins(stage.plugins), plugin_digests(stage)) if stage.plugins else ((), {})
        task = Task(stage, base, inputs, self.store, self.device, *own, replace=self.fresh and stage.recipe not in self.made)
        self.graph.begin(stage.recipe)
        self.running[self.engine.submit(task)] = stage
        self.listen(Event("started", stage))

    def _wait(self) -> set[Future[Outcome]]:
        """The tasks that finish next, or none when it is time to look at what others make. Meanwhile listeners hear how far
        stages are."""
        while True:
            polls = self.elsewhere and self._room()
            finished: set[Future[Outcome]] = set()
            if self.running:
                finished, _ = wait(self.running, POLL if polls else TICK, FIRST_COMPLETED)
            else:
                time.sleep(POLL)
            if time.monotonic() - self.shares_told >= TICK:
                self.shares_told = time.monotonic()
                self._tell_shares()
            if finished or polls:
                return finished

    def _finish(self, stage: Stage, outcome: Outcome) -> None:
        if outcome.artifact is not None:
            self.uses.add(outcome.artifact.key)
        self.leases.give_back(self.bases[stage.recipe])
        if outcome.artifact is not None:
            self.made.add(stage.recipe)
            self.listen(Event("finished", stage, outcome))
            self._have(stage, outcome.artifact)
        elif not (outcome.lost and self._again(stage)):
            self._fail(stage, outcome)

    def _take(self, stage: Stage, artifact: Artifact) -> None:
        """Use what the store has."""
        made = artifact.manifest.get("versions") or artifact.manifest.get("environment", {})
        if stage.recipe not in self.made and (differ := environment.others(made)):
            self.reused.append(differ)
        self.listen(Event("cached", stage))
        self._have(stage, artifact)

    def _have(self, stage: Stage, artifact: Artifact) -> None:
        """A stage's result is there: write the rows that it completes, and forget what nobody reads any more."""
        self.artifacts[stage.recipe] = artifact
        self.keys[stage.recipe], self.digests[stage.recipe] = artifact.key, artifact.digest
        self.uses.add(self.keys[stage.recipe])
        read = {stage.recipe, *(upstream.recipe for upstream in stage.inputs.values())}
        for number in self.graph.done(stage.recipe):
            cell = self.plan.cells[number]
            self._close(number)
            read |= {cell.model.recipe} if cell.model is not None else set()
        for recipe in read:
            if self.graph.unused(recipe) and not self.graph.stages[recipe].plugins:
                self.artifacts.pop(recipe, None)

    def _artifact(self, stage: Stage) -> Artifact:
        """What a stage has made, found again if it was forgotten. Raises Corrupt if it is gone."""
        found = self.artifacts.get(stage.recipe) or self.store.find(self.keys[stage.recipe])
        if found is None:
            raise Corrupt(f"what '{stage.label}' left is gone")
        return found

    def _close(self, number: int) -> None:
        """Write the row of a cell whose stages are done."""
        cell = self.plan.cells[number]
        try:
            model = None if cell.model is None else self._artifact(cell.model)
            record = results.measured(cell, self._artifact(cell.evaluation), model)
        except Corrupt as error:  # or gone, since it was made
            if self._again(cell.evaluation, [] if cell.model is None else [cell.model]):
                return
            record = results.failed(cell, Outcome("failed", str(error)), "")
        self.graph.close(number)
        self.listen(Event("record", record=self.results.write(record)))

    def _again(self, stage: Stage, also: Iterable[Stage] = ()) -> bool:
        """Make a stage anew, and first what is lost of its inputs and of `also`; False if it was too often before."""
        self.tries[stage.recipe] += 1
        if self.tries[stage.recipe] == TRIES:
            return False
        read = [*stage.inputs.values(), *also]
        lost = [upstream.recipe for upstream in read if self.store.verified(self.keys[upstream.recipe]) is None]
        self.graph.again(stage.recipe, lost)
        self.listen(Event("again", stage))
        return True

    def _fail(self, stage: Stage, outcome: Outcome) -> None:
        """Write the rows that a failure ends."""
        trace = self._keep_trace(stage, outcome.trace)
        self.listen(Event("finished", stage, outcome, text=trace))
        if outcome.status == "disk_full":
            raise DiskFull(f"no space left under {self.store.root}: free some and run the same command again")
        cells, ended = self.graph.fail(stage.recipe)
        for number in cells:
            record = results.failed(self.plan.cells[number], outcome, trace)
            self.listen(Event("record", record=self.results.write(record)))
        for recipe in ended:
            self.elsewhere.discard(recipe)
            self.listen(Event("skipped", self.graph.stages[recipe]))

    def _keep_trace(self, stage: Stage, trace: str) -> str:
        """Keep what a failed stage raised, whole, in the run folder; the name of the file, if there is one."""
        if not trace:
            return ""
        label = re.sub(r"[^A-Za-z0-9.+%-]+", "-", stage.label or stage.run).strip("-")[:80]
        name = f"errors/{label}-{stage.recipe[:8]}.txt"
        with contextlib.suppress(OSError):
            write_atomic(self.out / name, f"{plain(stage.label)}\n\n{trace}")
            return name
        return ""

    def _tell_shares(self) -> None:
        for stage in [*self.running.values(), *(self.graph.stages[recipe] for recipe in self.elsewhere)]:
            share = progress.read(self.leases.progress_file(self.bases[stage.recipe]))
            self.listen(Event("running", stage, share=share))

    def _tell(self) -> None:
        """What there is to say of the whole sweep: files that changed under way, results of other versions. Tracebacks that
        no row names any more go."""
        self.results.clean_traces()
        stages = [stage for stage in self.plan.stages if stage.plugins and stage.recipe in self.artifacts]
        late = {words for stage in stages for words in outdated(stage, self.artifacts[stage.recipe])}
        if late:
            self.listen(Event("note", text=f"{', '.join(sorted(late))} while the sweep ran: run the same command again"))
        if self.reused:
            made = "; ".join(dict.fromkeys(self.reused))
            self.listen(Event("note", text=f"{len(self.reused)} results were made with {made}: `--fresh` makes them anew"))
