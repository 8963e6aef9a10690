"""Pins that shared work is done once, a failure costs only what depends on it, and running again continues."""

from __future__ import annotations

import json
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from helpers import until

from loreun_bench.errors import UserError
from loreun_bench.harness import plan as planning
from loreun_bench.harness import scheduler
from loreun_bench.harness.engines.inline import InlineEngine
from loreun_bench.harness.engines.local import LocalEngine
from loreun_bench.harness.leases import Leases
from loreun_bench.harness.plan import Cell, Plan
from loreun_bench.harness.records import Record, load_records
from loreun_bench.harness.scheduler import DiskFull, Event
from loreun_bench.harness.stage import Stage
from loreun_bench.harness.store import TENSORS, Store
from loreun_bench.harness.work import Outcome, Task, execute


@dataclass
class Bench:
    """A store and a run folder, what was run there, and what the last run told its listener."""

    root: Path
    events: list[Event] = field(default_factory=list)

    @property
    def store(self) -> Store:
        return Store(self.root / "store")

    @property
    def out(self) -> Path:
        return self.root / "run"

    def stage(self, name: str, function: str = "ok", inputs: dict[str, Stage] | None = None, **config: Any) -> Stage:
        """A toy stage that counts its runs."""
        values = {"name": name, "log": str(self.root / "log"), **config}
        return Stage(f"toy_stages:{function}", values, inputs or {}, label=name)

    def cell(self, name: str, model: Stage, **config: Any) -> Cell:
        """A cell that measures `model`."""
        record = Record("toy", "toy", "toy", "toy", name, "none", {"split": 0})
        return Cell(record, model, self.stage(f"evaluate {name}", inputs={"model": model}, **config))

    def run(self, *cells: Cell) -> list[Record]:
        self.events = []
        return scheduler.run(plan_of(*cells), InlineEngine(), self.store, self.out, "cpu", self.events.append)

    def runs(self) -> Counter[str]:
        """How often each stage ran, all runs together."""
        log = self.root / "log"
        return Counter(log.read_text().splitlines() if log.exists() else [])

    def heard(self) -> Counter[str]:
        """How often the listener heard each kind of event in the last run."""
        return Counter(event.kind for event in self.events)

    def lines(self) -> int:
        return len((self.out / "records.jsonl").read_bytes().splitlines())

    def key(self, label: str) -> str:
        """The key under which the stage called `label` is stored."""
        manifests = [json.loads(p.read_text()) for p in self.store.root.glob("artifacts/*/*/manifest.json")]
        return next(str(m["key"]) for m in manifests if m["label"] == label)


def plan_of(*cells: Cell) -> Plan:
    """The stages of the cells, inputs first."""
    stages: dict[str, Stage] = {}

    def add(stage: Stage) -> None:
        for upstream in stage.inputs.values():
            add(upstream)
        stages.setdefault(stage.recipe, stage)

    for cell in cells:
        add(cell.evaluation)
    return Plan(cells, tuple(stages.values()))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def three_cells(bench: Bench) -> list[Cell]:
    """One original model, and three models made from it."""
    original = bench.stage("original", add=1.0)
    models = [bench.stage(f"model {i}", inputs={"original": original}, add=10.0 * i) for i in range(3)]
    return [bench.cell(f"m{i}", model, add=100.0) for i, model in enumerate(models)]


def one_bad_of_two(bench: Bench, function: str, **config: Any) -> list[Cell]:
    """Two models of one original; the first comes from `function`, and two cells measure it."""
    original = bench.stage("original", add=1.0)
    bad = bench.stage("bad", function, {"original": original}, **config)
    good = bench.stage("good", inputs={"original": original})
    return [bench.cell("bad a", bad), bench.cell("bad b", bad), bench.cell("good", good)]


def test_every_stage_runs_once_however_many_cells_share_it(bench: Bench) -> None:
    records = bench.run(*three_cells(bench))
    assert bench.runs()["original"] == 1
    assert len(bench.runs()) == 7
    assert set(bench.runs().values()) == {1}
    assert bench.heard() == {"started": 7, "finished": 7, "record": 3}
    assert [record.metrics["total"] for record in records] == [101.0, 111.0, 121.0]
    assert load_records(bench.out) == records


def test_a_record_says_where_its_numbers_come_from(bench: Bench) -> None:
    (record,) = bench.run(three_cells(bench)[0])
    assert record.artifact == bench.key("model 0")
    assert record.backend
    assert record.environment["device"] == "cpu"
    assert (record.status, record.reason) == ("ok", "")


@pytest.mark.parametrize(
    ("function", "status", "reason"),
    [("fails", "failed", "a bug"), ("diverges", "diverged", "NaN"), ("out_of_memory", "oom", "")],
)
def test_a_failure_is_a_row_in_every_cell_that_depends_on_it_and_the_others_finish(
    bench: Bench, function: str, status: str, reason: str
) -> None:
    records = bench.run(*one_bad_of_two(bench, function))
    assert [record.status for record in records] == [status, status, "ok"]
    assert [record.method for record in records] == ["bad a", "bad b", "good"]
    assert reason in records[0].reason
    assert records[0].reason
    assert records[0].metrics == {}
    assert {r.method: r for r in load_records(bench.out)} == {r.method: r for r in records}
    assert "evaluate bad a" not in bench.runs()


def test_what_only_failed_cells_want_is_not_run(bench: Bench) -> None:
    broken = bench.stage("what every row is measured with", "fails")
    shared, own = bench.stage("shared"), bench.stage("own")
    needs = {"broken": broken, "model": shared}
    record = Record("toy", "toy", "toy", "toy", "doomed", "none", {"split": 0})
    doomed = Cell(record, shared, bench.stage("evaluate doomed", inputs={**needs, "own": own}))
    assert [r.status for r in bench.run(doomed)] == ["failed"]
    assert bench.runs() == Counter()  # a failing stage leaves no line
    assert [r.status for r in bench.run(doomed, bench.cell("fine", shared))] == ["failed", "ok"]
    assert bench.runs() == Counter(["shared", "evaluate fine"])


def test_an_input_that_two_stages_lose_at_once_is_made_anew_once_and_no_cell_is_lost(bench: Bench) -> None:
    model, flags = bench.stage("model", seconds=1.0), [str(bench.root / name) for name in ("a", "b")]
    cells = []
    for own, other in (flags, flags[::-1]):
        name = Path(own).name
        measure = bench.stage(f"evaluate {name}", "loses", {"model": model}, own=own, other=other)
        cells.append(Cell(Record("toy", "toy", "toy", "toy", name, "none", {"split": 0}), model, measure))
    engine = LocalEngine(2)
    try:
        done = bench.cell("done", model)
        records = scheduler.run(plan_of(done, *cells), engine, bench.store, bench.out, "cpu", bench.events.append)
    finally:
        engine.close()
    assert [record.status for record in records] == ["ok"] * 3
    runs = bench.runs()
    assert runs.pop("model") >= 2
    assert runs == Counter(["evaluate done", "evaluate a", "evaluate b"])
    assert bench.heard()["again"] == 2


@pytest.mark.parametrize("times", range(1, scheduler.TRIES + 1))
def test_a_stage_that_loses_its_input_again_and_again_is_a_failed_row_in_the_end(bench: Bench, times: int) -> None:
    model = bench.stage("model")
    flag = str(bench.root / "flag")
    measure = bench.stage("evaluate", "loses", {"model": model}, own=flag, other=flag, times=times)
    (record,) = bench.run(Cell(Record("toy", "toy", "toy", "toy", "m", "none", {"split": 0}), model, measure))
    if times < scheduler.TRIES:
        assert record.status == "ok"
        assert bench.runs() == Counter({"model": times + 1, "evaluate": 1})
    else:
        assert (record.status, record.reason) == ("failed", "its input is gone: run the sweep again")
        assert bench.runs() == Counter({"model": times})


def test_what_is_lost_with_all_that_it_was_made_from_is_made_anew_from_the_beginning(bench: Bench) -> None:
    flag = str(bench.root / "flag")
    model = bench.stage("model", inputs={"original": bench.stage("original")})
    measure = bench.stage("evaluate", "loses", {"model": model}, own=flag, other=flag, all=True)
    (record,) = bench.run(Cell(Record("toy", "toy", "toy", "toy", "m", "none", {"split": 0}), model, measure))
    assert (record.status, record.reason) == ("ok", "")
    assert bench.runs() == Counter({"original": 2, "model": 2, "evaluate": 1})


@pytest.mark.parametrize(
    ("place", "ranks", "lost"),
    [("store/gone", 1, True), ("store/gone", 2, True), ("stored/gone", 1, False), ("gone", 1, False)],
)
def test_a_file_of_the_store_that_is_gone_is_lost_and_another_is_a_bug(
    bench: Bench, place: str, ranks: int, lost: bool
) -> None:
    stage = bench.stage("opens", "opens", path=str(bench.root / place), ranks=ranks)
    ended = execute(Task(stage, stage.key({}), {}, bench.store, "cpu"))
    assert (ended.status, ended.lost) == ("failed", lost)
    assert ("run the sweep again" in ended.reason) == lost


class Narrow(InlineEngine):
    """Runs one stage at a time, as its capacity says, in a thread."""

    def __init__(self) -> None:
        self.pool, self.futures, self.most = ThreadPoolExecutor(1), list[Future[Outcome]](), 0

    def capacity(self) -> int:
        return 1

    def submit(self, task: Task) -> Future[Outcome]:
        self.futures.append(self.pool.submit(lambda: (time.sleep(0.1), execute(task))[1]))
        self.most = max(self.most, sum(not each.done() for each in self.futures))
        return self.futures[-1]


def test_what_another_sweep_gives_up_is_begun_as_there_is_room_and_meanwhile_it_is_told_of(bench: Bench) -> None:
    models = [bench.stage(f"model {number}") for number in range(4)]
    engine, events = Narrow(), list[Event]()
    with Leases(bench.store) as other, ThreadPoolExecutor(1) as pool:
        assert all(other.take(model.key({})) for model in models)
        cells = [bench.cell(f"cell {number}", model) for number, model in enumerate(models)]
        run = pool.submit(scheduler.run, plan_of(*cells), engine, bench.store, bench.out, "cpu", events.append)
        until(lambda: any(event.kind == "running" for event in events))
        for model in models:
            other.give_back(model.key({}))
        assert [record.status for record in run.result()] == ["ok"] * 4
    assert engine.most == 1


def test_a_record_that_could_not_say_its_conditions_is_refused_at_planning() -> None:
    deep = Record("toy", "toy", "toy", "toy", "m", "none", {"split": 0}, conditions={"a": {"b": {"c": {"d": {"e": 1}}}}})
    stage = Stage("toy_stages:ok", {}, {}, label="m")
    with pytest.raises(UserError, match="could not hold these settings"):
        planning._check_rows([Cell(deep, stage, stage)])


def test_every_failed_cell_gives_its_own_reason(bench: Bench) -> None:
    shared = bench.stage("shared")
    cells = []
    for name, function in (("a", "fails"), ("b", "out_of_memory")):
        needs = {"shared": shared, "own": bench.stage(f"own {name}", function)}
        record = Record("toy", "toy", "toy", "toy", name, "none", {"split": 0})
        cells.append(Cell(record, shared, bench.stage(f"evaluate {name}", inputs=needs)))
    assert [record.status for record in bench.run(*cells)] == ["failed", "oom"]


def test_running_again_runs_nothing_and_appends_nothing(bench: Bench) -> None:
    first = bench.run(*three_cells(bench))
    before = (bench.out / "records.jsonl").read_bytes()
    assert bench.run(*three_cells(bench)) == first
    assert bench.heard() == {"cached": 7, "record": 3}
    assert set(bench.runs().values()) == {1}
    assert (bench.out / "records.jsonl").read_bytes() == before


def test_running_again_appends_nothing_where_a_metric_is_nan(bench: Bench) -> None:
    model = bench.stage("model")
    cell = Cell(bench.cell("nan", model).record, model, bench.stage("nan", "not_a_number", {"model": model}))
    bench.run(cell)
    bench.run(cell)
    assert bench.heard() == {"cached": 2, "record": 1}
    assert bench.lines() == 1


def test_another_run_folder_takes_its_rows_from_the_store(bench: Bench, tmp_path: Path) -> None:
    first = bench.run(*three_cells(bench))
    again = scheduler.run(
        plan_of(*three_cells(bench)), InlineEngine(), bench.store, tmp_path / "other", "cpu", lambda _: None
    )
    assert again == first == load_records(tmp_path / "other")
    assert set(bench.runs().values()) == {1}


def test_a_new_cell_runs_only_what_is_new(bench: Bench) -> None:
    *old, new = three_cells(bench)
    bench.run(*old)
    records = bench.run(*old, new)
    assert bench.heard() == {"cached": 5, "started": 2, "finished": 2, "record": 3}
    assert bench.lines() == 3
    assert load_records(bench.out) == records


def test_a_failed_cell_is_tried_again_and_its_new_row_replaces_the_old(bench: Bench, tmp_path: Path) -> None:
    cells = one_bad_of_two(bench, "fails_without", needs=str(tmp_path / "flag"), error="bug")
    assert [record.status for record in bench.run(*cells)] == ["failed", "failed", "ok"]
    bench.run(*cells)
    assert bench.heard()["started"] == 1
    assert bench.lines() == 3  # the same failure is not written twice
    (tmp_path / "flag").touch()
    records = bench.run(*cells)
    assert [record.status for record in records] == ["ok", "ok", "ok"]
    assert {r.method: r for r in load_records(bench.out)} == {r.method: r for r in records}
    assert bench.lines() == 5
    assert bench.runs()["original"] == bench.runs()["good"] == bench.runs()["bad"] == 1


def test_a_corrupt_artifact_is_built_again_and_what_depends_on_it_stays(bench: Bench) -> None:
    first = bench.run(*three_cells(bench))
    artifact = bench.store.find(bench.key("original"))
    assert artifact is not None
    path = artifact.folder / TENSORS
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    records = bench.run(*three_cells(bench))
    assert bench.runs()["original"] == 2
    assert bench.heard() == {"cached": 6, "started": 1, "finished": 1, "record": 3}
    assert [record.metrics for record in records] == [record.metrics for record in first]
    assert len(list((bench.store.root / "corrupt").iterdir())) == 1


def test_a_full_disk_stops_the_run_and_the_next_one_goes_on_from_there(bench: Bench, tmp_path: Path) -> None:
    good, *bad = reversed(one_bad_of_two(bench, "fails_without", needs=str(tmp_path / "flag"), error="disk_full"))
    with pytest.raises(DiskFull, match="run the same command again"):
        bench.run(good, *bad)
    assert [record.method for record in load_records(bench.out)] == ["good"]
    (tmp_path / "flag").touch()
    records = bench.run(good, *bad)
    assert [record.status for record in records] == ["ok", "ok", "ok"]
    assert set(bench.runs().values()) == {1}
    assert bench.lines() == 3


def test_a_disk_that_fills_up_while_a_row_is_written_is_a_full_disk_too(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("loreun_bench.harness.records.sync", full)
    with pytest.raises(DiskFull):
        bench.run(*three_cells(bench))


def test_a_row_is_written_as_soon_as_its_cell_is_done(bench: Bench) -> None:
    """A kill must cost only what is under way."""
    cells = three_cells(bench)
    plan = plan_of(*cells)
    lines_at_start: dict[str, int] = {}

    def listen(event: Event) -> None:
        journal = bench.out / "records.jsonl"
        if event.kind == "finished" and event.stage is not None:
            lines_at_start[event.stage.label] = len(journal.read_bytes().splitlines()) if journal.exists() else 0

    scheduler.run(plan, InlineEngine(), bench.store, bench.out, "cpu", listen)
    assert [lines_at_start[f"evaluate m{i}"] for i in range(3)] == [0, 1, 2]


def test_listeners_hear_how_far_a_running_stage_is_and_nothing_of_it_stays(bench: Bench) -> None:
    heard = bench.root / "heard"
    stage = bench.stage("long", "reports", heard=str(heard))

    def listen(event: Event) -> None:
        if event.kind == "running" and event.stage is stage and event.share == 0.25:
            heard.touch()

    engine = LocalEngine(1)
    try:
        records = scheduler.run(plan_of(bench.cell("m", stage)), engine, bench.store, bench.out, "cpu", listen)
    finally:
        engine.close()
    assert [record.status for record in records] == ["ok"]
    assert not list((bench.store.root / "tmp").iterdir())


def test_a_full_disk_does_not_keep_a_stage_from_working_when_it_says_how_far_it_is(bench: Bench) -> None:
    (bench.root / "heard").touch()
    stage = bench.stage("m", "reports", heard=str(bench.root / "heard"))
    Path(bench.store.progress_file(stage.key({}))).mkdir(parents=True)  # what cannot be written to
    assert execute(Task(stage, stage.key({}), {}, bench.store, "cpu")).status == "ok"
