"""Pins how a stage's end reaches the caller: every failure is an outcome with a status, and the engine works on after it."""

from __future__ import annotations

import itertools
import os
import pickle
import platform
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import launched

from loreun_bench.harness import work
from loreun_bench.harness.engines import Engine
from loreun_bench.harness.engines.inline import InlineEngine
from loreun_bench.harness.engines.local import LocalEngine
from loreun_bench.harness.files_used import plugin_digests
from loreun_bench.harness.stage import Stage, code_digest, digest
from loreun_bench.harness.store import VALUES, Artifact, Store
from loreun_bench.harness.work import Outcome, Task

LIMIT = 120  # seconds after which a test gives up waiting
numbers = itertools.count()
TOYS = Path(__file__).with_name("toy_stages.py")

FAILURES = [
    ("fails", "failed", r"^ValueError: a bug \(toy_stages\.py:\d+\)$"),
    ("absent", "failed", r"^AttributeError: .*absent"),
    ("out_of_memory", "oom", "MemoryError"),
    ("diverges", "diverged", "^loss became NaN at step 3$"),
    ("fills_the_disk", "disk_full", "No space left on device"),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def local() -> Iterator[LocalEngine]:
    """Two real worker processes, shared: starting one takes seconds."""
    engine = LocalEngine(2)
    yield engine
    engine.close()


@pytest.fixture(params=["inline", "local"])
def engine(request: pytest.FixtureRequest, local: LocalEngine) -> Engine:
    return InlineEngine() if request.param == "inline" else local


def task(
    root: Path, function: str, timeout_s: float | None = None, sources: tuple[Path, ...] = (), **config: Any
) -> Task:
    """A task with a key of its own."""
    stage = Stage(f"toy_stages:{function}", {"number": next(numbers), **config}, sources=sources, timeout_s=timeout_s)
    return Task(stage, stage.key({}), {}, Store(root), "cpu", code=plugin_digests(stage))


def outcome(engine: Engine, a_task: Task) -> Outcome:
    return engine.submit(a_task).result(LIMIT)


def pid_of_idle_worker(engine: LocalEngine, root: Path) -> int:
    """The process that ran the last task, and would run the next."""
    a_task = task(root, "ok", pid=True)
    assert outcome(engine, a_task).status == "ok"
    artifact = Store(root).verified(a_task.key)
    assert artifact is not None
    return int(artifact.values()["pid"])


def wait_until_dead(pid: int) -> None:
    """Polls for the end of a process (a zombie has ended)."""
    stat = Path(f"/proc/{pid}/stat")
    for _ in range(LIMIT * 20):
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    raise AssertionError(f"process {pid} is alive")


def test_a_stage_that_succeeds_leaves_its_artifact_in_the_store(engine: Engine, root: Path) -> None:
    a_task = task(root, "ok", add=2.0)
    result = outcome(engine, a_task)
    artifact = Store(root).verified(a_task.key)
    assert (result.status, result.reason) == ("ok", "")
    assert artifact is not None
    assert float(artifact.tensors()["total"]) == 2.0
    assert artifact.manifest["run"] == "toy_stages:ok"
    assert artifact.manifest["environment"]["device"] == "cpu"


@pytest.mark.parametrize(("function", "status", "reason"), FAILURES, ids=[f[0] for f in FAILURES])
def test_a_failure_is_an_outcome_with_status_and_reason_and_stores_nothing(
    engine: Engine, root: Path, function: str, status: str, reason: str
) -> None:
    a_task = task(root, function)
    result = outcome(engine, a_task)
    assert result.status == status
    assert re.search(reason, result.reason), result.reason
    assert Store(root).find(a_task.key) is None


def test_torch_running_out_of_memory_on_a_cpu_is_oom(root: Path) -> None:
    assert outcome(InlineEngine(), task(root, "out_of_memory_in_torch")).status == "oom"


def test_a_disk_that_fills_up_while_tensors_are_written_is_disk_full() -> None:
    from safetensors import SafetensorError

    error = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert work.classify(error) == "disk_full"


def test_a_missing_input_is_a_failure_that_names_it(engine: Engine, root: Path) -> None:
    one = task(root, "ok")
    gone = Artifact(f"{root}/gone", {"digest": digest(files := {VALUES: "0" * 64}), "files": files})
    result = outcome(engine, Task(one.stage, one.key, {"model": gone}, Store(root), "cpu"))
    assert result.status == "failed"
    assert "'model'" in result.reason


def test_a_stage_computes_with_one_thread_in_a_worker(local: LocalEngine, root: Path) -> None:
    assert threads_in(local, root) == 1


def test_a_stage_computes_with_one_thread_in_this_process_too(root: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert threads_in(InlineEngine(), root) == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc is asked to keep memory")
def test_a_worker_takes_the_memory_of_a_step_again_in_the_next(local: LocalEngine, root: Path) -> None:
    a_task = task(root, "takes_memory_again")
    assert outcome(local, a_task).status == "ok"
    artifact = Store(root).verified(a_task.key)
    assert artifact is not None
    assert artifact.values()["pages"] < 1000, "64 MiB are 16384 new pages"


def threads_in(engine: Engine, root: Path) -> int:
    a_task = task(root, "threads")
    assert outcome(engine, a_task).status == "ok"
    artifact = Store(root).verified(a_task.key)
    assert artifact is not None
    return int(artifact.values()["threads"])


def test_two_workers_are_two_processes_of_which_neither_is_this_one(local: LocalEngine, root: Path) -> None:
    assert local.capacity() == 2
    tasks = [task(root, "ok", pid=True, seconds=0.5) for _ in range(2)]
    for future in [local.submit(t) for t in tasks]:
        assert future.result(LIMIT).status == "ok"
    artifacts = [Store(root).verified(t.key) for t in tasks]
    pids = {artifact.values()["pid"] for artifact in artifacts if artifact is not None}
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_a_worker_that_dies_fails_its_stage_only_and_is_replaced(local: LocalEngine, root: Path) -> None:
    bystander, victim = local.submit(task(root, "ok")), local.submit(task(root, "dies"))
    assert bystander.result(LIMIT).status == "ok"
    result = victim.result(LIMIT)
    assert result.status == "failed"
    assert "died" in result.reason
    assert local.capacity() == 2
    futures = [local.submit(task(root, "ok")) for _ in range(2)]
    assert [future.result(LIMIT).status for future in futures] == ["ok", "ok"]


def test_a_stage_over_its_time_limit_is_stopped_and_the_engine_works_on(local: LocalEngine, root: Path) -> None:
    result = outcome(local, task(root, "sleeps", timeout_s=1.0))
    assert result.status == "timeout"
    assert "timeout_s = 1" in result.reason
    futures = [local.submit(task(root, "ok")) for _ in range(2)]
    assert [future.result(LIMIT).status for future in futures] == ["ok", "ok"]


def test_a_stage_within_its_time_limit_does_not_harm_the_next_one(local: LocalEngine, root: Path) -> None:
    assert outcome(local, task(root, "ok", timeout_s=LIMIT)).status == "ok"
    assert outcome(local, task(root, "ok")).status == "ok"


def test_a_worker_killed_while_idle_is_replaced(root: Path) -> None:
    engine = LocalEngine(1)
    try:
        pid = pid_of_idle_worker(engine, root)
        os.kill(pid, signal.SIGKILL)
        wait_until_dead(pid)
        time.sleep(1)  # for the pool to notice
        assert outcome(engine, task(root, "ok")).status in ("ok", "failed")
        assert outcome(engine, task(root, "ok")).status == "ok"
    finally:
        engine.close()


def test_the_time_a_worker_takes_to_start_does_not_count_as_the_stages(root: Path, tmp_path: Path) -> None:
    slow = tmp_path / "slow.py"
    slow.write_text("import time\ntime.sleep(2)\n")
    engine = LocalEngine(1)
    stage = Stage("toy_stages:ok", {"number": next(numbers)}, sources=(slow,), timeout_s=2.0)
    code = {str(slow): code_digest(slow)}
    try:
        assert outcome(engine, Task(stage, stage.key({}), {}, Store(root), "cpu", (str(slow),), code)).status == "ok"
    finally:
        engine.close()


def test_close_kills_the_workers_and_what_they_were_doing(root: Path) -> None:
    engine = LocalEngine(1)
    pid = pid_of_idle_worker(engine, root)
    future = engine.submit(task(root, "sleeps"))
    engine.close()
    assert future.result(LIMIT).status == "failed"
    wait_until_dead(pid)


@pytest.mark.parametrize("sources", [(), (TOYS,)], ids=["warm workers", "processes of their own"])
def test_close_returns_when_the_pools_threads_have_ended(root: Path, sources: tuple[Path, ...]) -> None:
    """One that still ends while Python does so trips over its pool's closed pipe and says so under the table."""
    before = set(threading.enumerate())
    engine = LocalEngine(2)
    for future in [engine.submit(task(root, "ok", sources=sources)) for _ in range(2)]:
        assert future.result(LIMIT).status == "ok"
    engine.close()
    assert not [thread.name for thread in threading.enumerate() if thread not in before]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no server starts the processes")
def test_ctrl_c_while_processes_start_leaves_none_that_finds_nobody(root, tmp_path):
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "preload.py").write_text("import time\nprint('loading', flush=True)\ntime.sleep(3)\n")
    script = tmp_path / "start.py"
    script.write_text(
        "import pickle, sys\nfrom pathlib import Path\n"
        "from loreun_bench.harness.engines.local import LocalEngine\n"
        "engine = LocalEngine(1, ['slow.stages'])\n"
        "try:\n    engine.submit(pickle.loads(Path(sys.argv[1]).read_bytes()))\n"
        "except KeyboardInterrupt:\n    engine.close()\n    sys.exit(130)\n"
    )
    (tmp_path / "task").write_bytes(pickle.dumps(task(root, "ok")))
    path = os.pathsep.join([str(tmp_path), *sys.path])
    process = launched(script, tmp_path / "task", stdout=subprocess.PIPE, PYTHONPATH=path)
    assert process.stdout.readline() == "loading\n"
    time.sleep(0.5)  # the sweep waits for its first process
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=LIMIT)  # the server writes there, too
    assert (process.returncode, errors) == (130, "")
