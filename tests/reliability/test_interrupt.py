"""Pins that a killed or interrupted sweep ends whole, and that the same command continues it to the same numbers."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from helpers import LIMIT, group_is_gone, launched, until

from loreun_bench import load_records

pytestmark = pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")

CELLS = 5  # Original, Retrain, Retrain-2, RL none, RL w_f
CONFIG = """
dataset: digits
seeds: 1
train: {epochs: 1}
scenarios: [{kind: random, fraction: 0.2}]
methods: {Retrain: , RL: {epochs: 1}}
weightings: [none, w_f]
device: cpu
"""


class Sweeps:
    """Sweeps of the tiny configuration, each in processes of its own; one torch thread, so that numbers are comparable."""

    def __init__(self, root: Path, data: Path) -> None:
        self.root, self.data = root, data
        self.started: list[subprocess.Popen[str]] = []
        (root / "tiny.yaml").write_text(CONFIG)

    def start(self, name: str, workers: int) -> subprocess.Popen[str]:
        """Start the sweep with run folder and store of this name, as the leader of a process group."""
        words = "-m", "loreun_bench", "sweep", self.root / "tiny.yaml", "--out", self.out(name), "--workers", workers
        process = launched(
            *words, LOREUN_STORE=str(self.store(name)), LOREUN_DATA=str(self.data), OMP_NUM_THREADS="1"
        )
        self.started.append(process)
        return process

    def finish(self, name: str) -> dict[Any, dict[str, float]]:
        """Run the sweep to its end in one process; the metrics of each cell."""
        process = self.start(name, workers=0)
        _, errors = process.communicate(timeout=LIMIT)
        assert process.returncode == 0, errors
        return self.metrics(name)

    def metrics(self, name: str) -> dict[Any, dict[str, float]]:
        records = load_records(self.out(name))
        assert [record.status for record in records] == ["ok"] * CELLS
        return {record.cell: record.metrics for record in records}

    def out(self, name: str) -> Path:
        return self.root / f"run-{name}"

    def store(self, name: str) -> Path:
        return self.root / f"store-{name}"

    def lines(self, name: str) -> int:
        journal = self.out(name) / "records.jsonl"
        return journal.read_bytes().count(b"\n") if journal.exists() else 0

    def artifacts(self, name: str) -> dict[str, int]:
        """The finished artifacts, with the time at which each was written."""
        return {p.parent.name: p.stat().st_mtime_ns for p in self.store(name).glob("artifacts/*/*/manifest.json")}

    def start_and_wait_for_first_row(self, name: str) -> subprocess.Popen[str]:
        """A sweep under way: it has written a row, and not all of them."""
        process = self.start(name, workers=1)
        until(lambda: self.lines(name) > 0 or process.poll() is not None)
        assert process.poll() is None, "the sweep ended before its first row"
        return process


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sweeps")


@pytest.fixture(scope="module")
def whole(shared: Path) -> dict[Any, dict[str, float]]:
    """The metrics of a sweep that nothing interrupted."""
    return Sweeps(shared, shared / "data").finish("whole")


@pytest.fixture
def sweeps(tmp_path: Path, shared: Path) -> Any:
    sweeps = Sweeps(tmp_path, shared / "data")
    yield sweeps
    for process in sweeps.started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(LIMIT)
        if process.stderr is not None:
            process.stderr.close()


def test_a_sweep_killed_with_all_its_processes_continues_to_the_same_numbers(
    sweeps: Sweeps, whole: dict[Any, dict[str, float]]
) -> None:
    process = sweeps.start_and_wait_for_first_row("a")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(LIMIT)
    rows, kept = sweeps.lines("a"), sweeps.artifacts("a")
    assert 0 < rows < CELLS
    assert sweeps.finish("a") == whole
    assert sweeps.lines("a") == CELLS  # no finished cell was written again
    assert kept.items() <= sweeps.artifacts("a").items()  # and what was finished is still there
    assert not list(sweeps.store("a").glob("corrupt/*"))


def test_the_workers_of_a_sweep_end_when_only_its_main_process_is_killed(sweeps: Sweeps) -> None:
    process = sweeps.start_and_wait_for_first_row("b")
    os.kill(process.pid, signal.SIGKILL)
    process.wait(LIMIT)
    until(lambda: group_is_gone(process.pid))


def test_ctrl_c_exits_130_says_how_to_go_on_leaves_no_process_and_continues_to_the_same_numbers(
    sweeps: Sweeps, whole: dict[Any, dict[str, float]]
) -> None:
    process = sweeps.start_and_wait_for_first_row("c")
    os.killpg(process.pid, signal.SIGINT)  # as the terminal does
    check_interrupted(process)
    assert sweeps.finish("c") == whole


@pytest.mark.slow
def test_sigterm_to_the_main_process_ends_a_sweep_as_ctrl_c_does(sweeps: Sweeps) -> None:
    process = sweeps.start_and_wait_for_first_row("d")
    process.terminate()
    check_interrupted(process)


def check_interrupted(process: subprocess.Popen[str]) -> None:
    """The exit code, the advice, and that no process stays."""
    _, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 130, errors
    assert "run the same command again to continue" in errors
    assert "Traceback" not in errors
    until(lambda: group_is_gone(process.pid))
