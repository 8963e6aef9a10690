"""Pins that of all sweeps on a store one makes a stage, that a dead one's lease is taken over, and that no clock counts."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import until

from loreun_bench.harness import leases as module
from loreun_bench.harness.keeping import RunList, needed_by
from loreun_bench.harness.leases import ALIVE, Leases, Sweeps
from loreun_bench.harness.stage import Output
from loreun_bench.harness.store import Store

KEY = "ab" + "0" * 62
SWEEP = """
import sys
from pathlib import Path
sys.path[:0] = {path!r}
from test_scheduler import Bench, scheduler, plan_of
from loreun_bench.harness.engines.inline import InlineEngine
bench = Bench(Path({root!r}))
original = bench.stage("original", seconds=0.3)
models = [bench.stage(f"model {{i}}", inputs={{"original": original}}, seconds=0.1, add=float(i)) for i in range(6)]
cells = [bench.cell(f"m{{i}}", model) for i, model in enumerate(models)]
out = bench.root / sys.argv[1]
found = scheduler.run(plan_of(*cells), InlineEngine(), bench.store, out, "cpu", bench.events.append)
print([record.metrics["total"] for record in found])
"""
HOLDER = """
import sys, time
from pathlib import Path
from loreun_bench.harness.leases import Leases
from loreun_bench.harness.store import Store
with Leases(Store(Path(sys.argv[1]))) as leases:
    print(leases.take(sys.argv[2]), flush=True)
    time.sleep(600)
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def holder(store: Store) -> subprocess.Popen[str]:
    """Another process's sweep, which has the lease."""
    words = [sys.executable, "-c", HOLDER, str(store.root), KEY]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    return process


def elsewhere(store: Store, name: str = "far") -> Path:
    """A sweep on another machine, which has the lease: the file that says that it lives."""
    (store.root / "tmp" / name).mkdir(parents=True)
    (store.root / "leases").mkdir(exist_ok=True)
    (store.root / "leases" / KEY).write_text(name)
    alive = store.root / "tmp" / name / ALIVE
    alive.write_text("another-machine 000000000000\n")
    return alive


def test_four_sweeps_at_once_make_each_stage_once_and_have_the_same_rows(tmp_path: Path) -> None:
    code = SWEEP.format(path=sys.path, root=str(tmp_path))
    words = [[sys.executable, "-c", code, f"run {i}"] for i in range(4)]
    sweeps = [subprocess.Popen(each, stdout=subprocess.PIPE, text=True) for each in words]
    said = {sweep.communicate(timeout=120)[0] for sweep in sweeps}
    assert said == {"[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]\n"}
    runs = Counter((tmp_path / "log").read_text().splitlines())
    assert set(runs.values()) == {1}
    assert len(runs) == 13
    assert list((tmp_path / "store" / "leases").glob("[!.]*")) == []


def test_a_lease_is_one_sweeps_until_it_gives_it_back(store: Store) -> None:
    with Leases(store) as one, Leases(store) as other:
        assert one.take(KEY)
        assert not other.take(KEY)
        assert other.take("cd" + KEY)
        one.give_back(KEY)
        assert other.take(KEY)
    with Leases(store) as third:
        assert third.take(KEY)


@pytest.mark.skipif(sys.platform == "win32", reason="needs locks that end with a process")
def test_a_killed_sweeps_lease_is_taken_over_at_once_on_the_same_machine(store: Store) -> None:
    process = holder(store)
    with Leases(store) as leases:
        assert not leases.take(KEY)
        process.kill()
        process.wait()
        assert leases.take(KEY)
        with Leases(store) as third:  # which removes what the dead one left, and not the living one's
            assert not third.take(KEY)
            assert {path.name for path in (store.root / "tmp").iterdir()} == {leases.store.sweep, third.store.sweep}


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_a_sweep_that_hangs_is_waited_for_as_long_as_one_elsewhere(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    process = holder(store)
    try:
        os.kill(process.pid, signal.SIGSTOP)
        monkeypatch.setattr(module, "EXPIRES", 0.5)
        with Leases(store) as leases:
            assert not leases.take(KEY)
            until(lambda: leases.take(KEY))
    finally:
        process.kill()
        process.wait()


def test_a_sweep_elsewhere_lives_as_long_as_it_changes_its_file_whatever_the_clocks_say(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module.time, "time", lambda: 0.0)
    alive = elsewhere(store)
    os.utime(alive, (1, 1))  # a clock that is far behind
    sweeps = Sweeps(store)
    for number in range(20):
        now[0] += 0.9 * module.EXPIRES
        alive.write_text(f"another-machine {number + 1:012d}\n")
        os.utime(alive, (1, 1))
        assert sweeps.live("far")
    os.utime(alive, (2e9, 2e9))  # and one that is far ahead
    now[0] += 0.9 * module.EXPIRES
    assert sweeps.live("far")
    now[0] += 0.2 * module.EXPIRES
    assert not sweeps.live("far")


def test_a_sweep_that_begins_leaves_alone_what_one_elsewhere_writes(store: Store) -> None:
    alive = elsewhere(store)
    (alive.parent / "half").mkdir()
    with Leases(store) as leases:
        assert not leases.take(KEY)
    assert (alive.parent / "half").is_dir()


def test_a_sweep_that_ends_removes_what_one_elsewhere_left_that_has_not_lived_meanwhile(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EXPIRES", 0.2)
    dead, living = elsewhere(store, "dead"), elsewhere(store, "living")
    with Leases(store):
        time.sleep(0.3)
        living.write_text("another-machine 000000000001\n")
    assert not dead.parent.exists()
    assert living.exists()


def test_a_lease_whose_holder_has_left_no_trace_is_free(store: Store) -> None:
    alive = elsewhere(store)
    alive.unlink()
    with Leases(store) as leases:
        assert leases.take(KEY)


def test_a_lease_that_is_being_written_is_somebodys(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    (store.root / "leases").mkdir(parents=True)
    (store.root / "leases" / KEY).touch()
    monkeypatch.setattr(module, "EXPIRES", 0.3)
    with Leases(store) as leases:
        assert not leases.take(KEY)
        until(lambda: leases.take(KEY))  # who wrote it has died in between


def test_what_was_taken_over_is_not_given_back_by_who_had_it(store: Store) -> None:
    with Leases(store) as one, Leases(store) as other:
        assert one.take(KEY)
        (store.root / "leases" / KEY).write_text(other.store.sweep)
        one.give_back(KEY)
        assert other.holder(KEY) == other.store.sweep


def test_a_sweep_says_every_few_seconds_that_it_lives(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT", 0.01)
    with Leases(store) as leases:
        first = (leases.store.tmp / ALIVE).read_bytes()
        until(lambda: (leases.store.tmp / ALIVE).read_bytes() != first)


def take(store: Store) -> bool:
    with Leases(store) as leases:
        return leases.take(KEY) and leases.holder(KEY) == leases.store.sweep


def put(store: Store) -> bool:
    return store.put(KEY, Output(values={"a": 1}), {}).values() == {"a": 1}


def list_what_it_uses(store: Store) -> bool:
    RunList(store, store.root.parent / "run").add(KEY)
    return needed_by(store, store.root.parent / "run") == {KEY}


def set_aside(store: Store) -> bool:
    store.set_aside(store.put(KEY, Output(), {}))
    return store.find(KEY) is None and (store.root / "corrupt").is_dir()


def note_used(store: Store) -> bool:
    store.note_used(KEY, {"a.txt": "hash"})
    return store.used(KEY) == [{"a.txt": "hash"}]


@pytest.mark.parametrize("write", [take, put, list_what_it_uses, set_aside, note_used])
def test_a_store_is_written_to_though_each_of_its_folders_is_deleted_as_soon_as_it_is_made(
    write: Callable[[Store], bool], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, made = os.makedirs, list[str]()

    def make_and_lose(folder: str, *rest: Any, **more: Any) -> None:
        make(folder, *rest, **more)
        made.append(str(folder))
        if made.count(str(folder)) <= 2:
            shutil.rmtree(folder)

    monkeypatch.setattr(os, "makedirs", make_and_lose)
    assert write(store)
    assert made.count(made[-1]) == 3


def test_a_store_whose_leases_are_a_link_to_nowhere_is_refused(store: Store) -> None:
    with Leases(store) as leases:
        (store.root / "leases").symlink_to("nowhere")
        with pytest.raises(NotADirectoryError):
            leases.take(KEY)


def test_a_store_that_is_deleted_under_way_takes_leases_again(store: Store) -> None:
    with Leases(store) as leases:
        assert leases.take(KEY)
        shutil.rmtree(store.root)
        assert leases.take("cd" + KEY)
        assert leases.take(KEY)
