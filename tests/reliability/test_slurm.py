"""Pins a sweep as jobs, with submitit's executor of this machine: real processes, and its way to queue a job again."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import until

import loreun_bench
from loreun_bench.errors import UserError
from loreun_bench.harness.records import Record
from loreun_bench.harness.scheduler import Event
from loreun_bench.report import leaderboard, table

pytest.importorskip("submitit", reason="needs submitit: pip install 'loreun-bench[slurm]'")
if sys.platform == "win32":
    pytest.skip("submitit needs Linux", allow_module_level=True)

from loreun_bench.harness.engines import slurm
from loreun_bench.harness.engines.slurm import Part

HERE = ("cluster=local", "timeout_min=5")
CONFIG = {
    "name": "jobs", "dataset": "digits", "seeds": 2, "device": "cpu", "train": {"epochs": 1}, "noise_floor": False,
    "scenarios": [{"kind": "random", "fraction": 0.1}], "methods": {"Retrain": {}, "RL": {"epochs": 1}},
    "weightings": ["none"], "metrics": ["accuracy"],
}  # fmt: skip
WAITS = """
import pathlib, sys, time
runs = pathlib.Path(sys.argv[1])
before = runs.read_text() if runs.exists() else ""
runs.write_text(before + "run\\n")
if not before:
    time.sleep(600)
"""


def shown(records: list[Record]) -> str:
    return leaderboard.render(table.build([("jobs", [replace(record, cost={}) for record in records])]), "md")


def test_a_sweep_as_jobs_has_the_local_engines_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Event] = []
    jobs = loreun_bench.sweep(CONFIG, tmp_path / "jobs", engine="slurm", workers=2, slurm=HERE, listen=heard.append)
    monkeypatch.setenv("LOREUN_STORE", str(tmp_path / "other"))
    assert shown(jobs) == shown(loreun_bench.sweep(CONFIG, tmp_path / "near", workers=0))
    assert {record.status for record in jobs} == {"ok"}
    told = [event.record for event in heard if event.record is not None]
    assert {record.cell for record in told} == {record.cell for record in jobs}
    logs = "".join(path.read_text() for path in (tmp_path / "jobs" / slurm.LOGS).glob("*.err"))
    assert "part 1/2 is done" in logs
    assert "part 2/2 is done" in logs


def test_a_job_that_is_preempted_is_queued_again_and_goes_on(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    part = Part((sys.executable, "-c", WAITS, str(runs)), str(tmp_path), {})
    job = slurm._executor(tmp_path / "logs", HERE).submit(part)
    until(runs.exists)
    (pid,) = Path(f"/proc/{job.job_id}/task/{job.job_id}/children").read_text().split()
    os.kill(int(pid), signal.SIGUSR2)  # as Slurm does
    assert job.result() == 0
    assert runs.read_text() == "run\n" * 2


def test_rows_that_no_job_has_written_say_where_to_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Event] = []
    monkeypatch.setattr(slurm, "sys", SimpleNamespace(executable=str(tmp_path / "none")))
    monkeypatch.setattr(slurm, "LOOK", 0.1)
    found = loreun_bench.sweep(CONFIG, tmp_path / "run", engine="slurm", workers=1, slurm=HERE, listen=heard.append)
    assert {record.status for record in found} == {"failed"}
    assert found[0].reason.startswith("its job ended without it: see the logs in ")
    assert any("failed: " in event.text for event in heard)


@pytest.fixture
def hears_ctrl_c() -> Iterator[None]:
    """What is started inside hears Ctrl-C, by which submitit cancels here, and which a shell's background job ignores."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_cancels_the_jobs(tmp_path: Path, hears_ctrl_c: None) -> None:
    runs = tmp_path / "runs"
    part = Part((sys.executable, "-c", WAITS, str(runs)), str(tmp_path), {})
    found: list[Any] = []

    def interrupted() -> None:
        with slurm._submitted(slurm._executor(tmp_path / "logs", HERE), [part]) as jobs:
            found.extend(jobs)
            until(runs.exists)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    until(lambda: found[0].state != "RUNNING")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["partition"], "give key=value"),
        (["cluster=nowhere"], "nowhere"),
        (["cluster=local", "visible_gpus=many"], "visible_gpus"),
        ([], "no sbatch"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any, says: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=says):
        slurm._executor(tmp_path, settings)
