"""Pins that a sweep on a real Ray cluster is the local engine's to the byte: also when a machine is killed under it, when
the machines do not share the store, and when they have not got the user's files."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_stages import kills_its_worker

import loreun_bench
from loreun_bench import api
from loreun_bench.harness.engines import node
from loreun_bench.harness.engines.node import Answer, Order
from loreun_bench.harness.records import Record
from loreun_bench.harness.scheduler import Event
from loreun_bench.harness.stage import Output, Stage
from loreun_bench.harness.store import Artifact, Store
from loreun_bench.harness.work import Outcome, Task, execute
from loreun_bench.report import leaderboard, table

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'loreun-bench[ray]'")
if sys.platform == "win32":
    pytest.skip("needs a Ray cluster of several nodes, which Windows has not", allow_module_level=True)

from ray.cluster_utils import Cluster  # noqa: E402

from loreun_bench.harness.engines.ray import RayEngine  # noqa: E402

LIMIT = 120  # seconds after which a test gives up waiting
CONFIG = {
    "name": "far", "dataset": "digits", "seeds": 1, "device": "cpu", "train": {"epochs": 1},
    "scenarios": [{"kind": "random", "fraction": 0.1}], "methods": {"Retrain": {}, "RL": {"epochs": 1}},
    "weightings": ["none", "w_f"], "metrics": ["accuracy", "mia"],
}  # fmt: skip
PLUGIN = """
from dataclasses import dataclass
from loreun_bench import method
from parts.shrink import shrunk

@method("Shrink", uses={"forget"}, files=["by.txt"])
@dataclass(frozen=True)
class Shrink:
    "Makes the first weights smaller."
    def unlearn(self, model, data, context):
        shrunk(model)
        context.meter.forward_samples += 1
        return model
"""
SHRINK = """
import pathlib
import torch
def shrunk(model):
    by = float((pathlib.Path(__file__).parents[1] / "by.txt").read_text())
    with torch.no_grad():
        next(model.parameters()).mul_(by)
"""
NODE = {"num_cpus": 1, "object_store_memory": 100 << 20}
QUICK = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}
MODULES = ("loreun_bench.classification.stages",)  # which its workers have imported for the sweeps
numbers = itertools.count()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what the machines have, and this process has not."""
    return tmp_path_factory.mktemp("machines")


@pytest.fixture(scope="module")
def cluster(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A head without CPUs and two machines of one CPU, the first with a GPU by name; this process is at the head."""
    short = tempfile.mkdtemp(prefix="r", dir="/tmp")  # sockets' paths have a limit
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOREUN_STORE", str(home / "store"))
        patch.setenv("PYTHONPATH", f"{Path(loreun_bench.__file__).parents[1]}{os.pathsep}{Path(__file__).parent}")
        patch.setenv("XDG_CACHE_HOME", str(home / "cache"))
        patch.delenv("LOREUN_DATA", raising=False)
        for name, value in {"RAY_TMPDIR": short, "RAY_USAGE_STATS_ENABLED": 0, "RAY_memory_usage_threshold": 0.99}.items():
            patch.setenv(name, str(value))
        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 100 << 20, "_system_config": QUICK}
        started = Cluster(initialize_head=True, head_node_args=head)
        try:
            started.add_node(num_gpus=1, **NODE)
            started.add_node(**NODE)
            ray.init(address=started.address, log_to_driver=False, logging_level="ERROR")
            yield started
        finally:
            ray.shutdown()
            started.shutdown()
            shutil.rmtree(short, ignore_errors=True)


@pytest.fixture
def engine(cluster: Any) -> Iterator[RayEngine]:
    engine = RayEngine(None, None, "cpu", MODULES)
    yield engine
    engine.close()


def sweep(
    monkeypatch: pytest.MonkeyPatch, root: Path, engine: type | None = None, listen: Any = lambda event: None, **options: Any
) -> list[Record]:
    """A sweep with its store and run folder under `root`, on the local engine or one of this class."""
    monkeypatch.setenv("LOREUN_STORE", str(root / "store"))
    with monkeypatch.context() as patch:
        if engine is not None:
            patch.setattr(api, "make_engine", lambda device, where, modules: engine(None, where.workers, device, modules))
        return loreun_bench.sweep(CONFIG | options.pop("config", {}), out=root / "run", listen=listen, **options)


def shown(records: list[Record]) -> str:
    """What the table shows, times aside."""
    return leaderboard.render(table.build([("far", [replace(record, cost={}) for record in records])]), "md")


def task(root: Path, function: str, timeout_s: float | None = None, inputs: Any = (), **config: Any) -> Task:
    """A task with a key of its own, of a sweep that no machine sees."""
    stage = Stage(f"toy_stages:{function}", {"number": next(numbers), **config}, timeout_s=timeout_s)
    return Task(stage, stage.key({}), dict(inputs), Store(root / "store"), "cpu")


def made(a_task: Task) -> Artifact:
    found = a_task.store.find(a_task.key)
    assert found is not None
    return found


def outcome(engine: RayEngine, a_task: Task) -> Outcome:
    return engine.submit(a_task).result(LIMIT)


class Apart(RayEngine):
    """An engine whose machines do not see the sweep's store."""

    def submit(self, task: Task) -> Any:
        return super().submit(replace(task, store=Store(task.store.root, "unseen")))


class Elsewhere(Apart):
    """Nor the user's folder `project`, which is away while a stage runs."""

    def _answer(self, order: Order) -> Answer:
        project = Path(next(iter(order.parcel.files), "/none/none")).parent
        away = project.with_name("away")
        if project.exists():
            project.rename(away)
        try:
            return super()._answer(order)
        finally:
            if away.exists():
                away.rename(project)


def test_without_a_shared_store_inputs_are_sent_and_results_come_back(
    cluster: Any, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = sweep(monkeypatch, tmp_path / "far", Apart, workers=1)
    near = sweep(monkeypatch, tmp_path / "near", workers=1)
    assert {record.status for record in far} == {"ok"}
    assert shown(far) == shown(near)
    models = {record.artifact for record in far if record.artifact}
    assert all(Store(home / "store").verified(key) for key in models)  # the machines' own
    assert all(Store(tmp_path / "far" / "store").verified(key) for key in models)


def test_data_that_a_machine_has_not_got_are_to_be_prepared_there(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class WithoutData(RayEngine):
        def _order(self, task: Task) -> Order:
            return replace(super()._order(task), data=str(tmp_path / "none"))

    found = sweep(monkeypatch, tmp_path, WithoutData, workers=1)
    assert all("missing on this machine" in record.reason for record in found)
    assert all("`loreun-bench data prepare digits`, or share $LOREUN_DATA" in record.reason for record in found)


@pytest.mark.slow
def test_plug_ins_are_sent_by_content_and_the_local_engine_finds_what_they_made(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    (project / "parts").mkdir(parents=True)
    for name, text in {"mine.py": PLUGIN, "parts/__init__.py": "", "parts/shrink.py": SHRINK, "by.txt": "0.5"}.items():
        (project / name).write_text(text)
    own = {"config": {"methods": {"Retrain": {}, "Shrink": {}}, "weightings": ["none"]}, "plugins": [project / "mine.py"]}
    far = sweep(monkeypatch, tmp_path / "far", Elsewhere, workers=1, **own)
    assert [record.reason for record in far if record.status != "ok"] == []
    heard: list[Event] = []
    again = sweep(monkeypatch, tmp_path / "far", listen=heard.append, workers=1, **own)
    assert [event.stage.label for event in heard if event.kind == "started" and event.stage] == []
    near = sweep(monkeypatch, tmp_path / "near", workers=1, **own)
    assert shown(far) == shown(again) == shown(near)


@pytest.mark.parametrize(
    ("function", "config", "status", "reason"),
    [
        ("fails", {}, "failed", "ValueError: a bug (toy_stages.py"),
        ("out_of_memory", {}, "oom", "MemoryError"),
        ("fills_the_disk", {}, "failed", "on a machine of the cluster: OSError: [Errno 28] No space left"),
        ("dies", {}, "failed", "the worker process died"),
        ("sleeps", {"timeout_s": 0.3}, "timeout", "ran longer than timeout_s = 0.3"),
    ],
)
def test_a_failure_has_the_status_and_the_reason_it_has_on_one_machine(
    engine: RayEngine, tmp_path: Path, function: str, config: Any, status: str, reason: str
) -> None:
    found = outcome(engine, task(tmp_path, function, **config))
    assert found.status == status
    assert found.reason.startswith(reason)


@pytest.mark.slow
def test_a_stage_whose_worker_is_lost_runs_again_elsewhere(engine: RayEngine, tmp_path: Path) -> None:
    a_task = task(tmp_path, kills_its_worker.__name__, own=str(tmp_path / "runs"), add=3.0)
    assert outcome(engine, a_task).status == "ok"
    artifact = Store(tmp_path / "store").verified(a_task.key)
    assert artifact is not None
    assert float(artifact.tensors()["total"]) == 3.0
    assert (tmp_path / "runs").read_text() == "run\n" * 2


def test_what_lies_beside_an_artifact_goes_with_it(engine: RayEngine, tmp_path: Path) -> None:
    here, there = task(tmp_path, "draws"), task(tmp_path, "draws", number=0.5)
    assert execute(here).status == "ok"
    seen = task(tmp_path, "looks", inputs={"drawn": made(here)})
    assert outcome(engine, seen).status == "ok"
    assert made(seen).values() == {"seen": "nothing"}
    (picture := tmp_path / "store" / "pictures" / "drawn" / "one.png").unlink()
    assert outcome(engine, there).status == "ok"
    assert picture.read_text() == "nothing"


def test_a_picture_that_changed_here_is_made_anew_not_sent(engine: RayEngine, tmp_path: Path) -> None:
    drawn = task(tmp_path, "draws", number=0.25)
    assert execute(drawn).status == "ok"
    (tmp_path / "store" / "pictures" / "drawn" / "one.png").write_text("changed")
    found = outcome(engine, task(tmp_path, "looks", inputs={"drawn": made(drawn)}))
    assert (found.status, found.lost) == ("failed", True)
    assert Store(tmp_path / "store").find(drawn.key) is None


def test_what_a_machine_has_of_an_input_is_used_only_if_it_is_the_same(engine: RayEngine, tmp_path: Path) -> None:
    store, before = Store(tmp_path / "store"), task(tmp_path, "ok", add=1.0)
    assert outcome(engine, before).status == "ok"
    store.put(before.key, Output({"total": torch.tensor(5.0)}), {}, replace=True)  # made anew here
    after = task(tmp_path, "ok", inputs={"one": made(before)})
    assert outcome(engine, after).status == "ok"
    assert float(made(after).tensors()["total"]) == 5.0


def test_an_input_that_is_gone_is_told_as_lost(engine: RayEngine, tmp_path: Path) -> None:
    drawn = task(tmp_path, "draws")
    assert execute(drawn).status == "ok"
    gone = made(drawn)
    Store(tmp_path / "store").set_aside(gone)
    found = outcome(engine, task(tmp_path, "ok", inputs={"model": gone}))
    assert (found.status, found.lost) == ("failed", True)
    assert "missing" in found.reason


def test_a_machine_with_other_versions_runs_nothing(
    engine: RayEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node, "versions", lambda: {"torch": "0.1", "loreun_bench": "1 (code 123)"})
    found = outcome(engine, task(tmp_path, "ok"))
    assert found.status == "failed"
    assert found.reason.startswith("not run: a machine of the cluster has torch ")
    assert ", not 0.1; loreun_bench " in found.reason
    assert found.reason.endswith("install the same there")


def test_stages_on_a_gpu_take_a_share_of_it(cluster: Any, tmp_path: Path) -> None:
    whole, shared = RayEngine(None, None, "cuda"), RayEngine(None, None, "cuda", MODULES, 0.5)
    assert (whole.capacity(), shared.capacity()) == (1, 2)
    a_task = task(tmp_path, "devices")
    assert outcome(shared, a_task).status == "ok"
    assert made(a_task).values() == {"devices": "0"}


def test_a_sweep_in_which_a_machine_is_killed_has_the_local_engines_table(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Event] = []

    def listen(event: Event) -> None:
        heard.append(event)
        if event.kind == "record" and len(cluster.worker_nodes) == 2:
            cluster.remove_node(min(cluster.worker_nodes, key=str), allow_graceful=False)

    far = sweep(monkeypatch, tmp_path / "far", RayEngine, listen, config={"seeds": 2})
    assert sum(bool(machine["Alive"]) for machine in ray.nodes()) == 2  # the head, and one of two
    near = sweep(monkeypatch, tmp_path / "near", workers=1, config={"seeds": 2})
    assert {record.status for record in far} == {"ok"}
    assert shown(far) == shown(near)
    assert [record.metrics for record in far] == [record.metrics for record in near]
    assert [record for record in heard if record.kind == "again"] == []


def test_without_an_address_a_cluster_of_this_machine_is_started_and_ended(tmp_path: Path) -> None:
    short = tempfile.mkdtemp(prefix="r", dir="/tmp")
    words = ["sweep", "digits", "--set", "seeds=1", "--set", "train.epochs=1", "--set", "methods={Retrain: }", "--set",
             "scenarios=[{kind: random, fraction: 0.1}]", "--set", "noise_floor=false", "--out", tmp_path / "run",
             "--engine", "ray", "--workers", "1", "--device", "cpu"]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "loreun_bench", *map(str, words)], env=os.environ | {"RAY_TMPDIR": short}, text=True,
        capture_output=True, timeout=LIMIT,
    )  # fmt: skip
    shutil.rmtree(short, ignore_errors=True)
    assert done.returncode == 0, done.stderr
    assert "Retrain" in done.stdout
    assert "ray" not in done.stderr.lower(), done.stderr
