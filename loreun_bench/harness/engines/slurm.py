"""A sweep as jobs of Slurm: an array of parts (`--shard`) on the store that all machines share, and one job that collects.

No engine of the scheduler's: a job a stage would wait in the queue for longer than it runs. A job that is preempted, or out
of time, is queued again and goes on from the store.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loreun_bench.errors import UserError
from loreun_bench.harness import results
from loreun_bench.harness.plan import Plan
from loreun_bench.harness.records import Record, load_records
from loreun_bench.harness.scheduler import Event
from loreun_bench.harness.store import data_root, default_root
from loreun_bench.harness.work import Outcome

try:
    import submitit
except ImportError as error:
    raise UserError(f"--engine slurm: submitit cannot be imported ({error}): pip install 'loreun-bench[slurm]'") from error

LOGS = "slurm"  # the folder of the jobs' own files, in the run folder
MINUTES = 240  # that a job may take, if nothing else is said; then it is queued again
LOOK = 1.0  # seconds between two looks at the rows that have come
COMMON = ("timeout_min", "cpus_per_task", "gpus_per_node", "mem_gb", "name", "stderr_to_stdout")  # as submitit calls them
Listen = Callable[[Event], None]


@dataclass(frozen=True)
class Part:
    """What a job runs: a command, in the folder and with the variables of who submitted it."""

    words: tuple[str, ...]
    cwd: str
    environment: Mapping[str, str]

    def __call__(self) -> int:
        """Run it; the exit code. RuntimeError if it could not begin."""
        process = subprocess.Popen(self.words, cwd=self.cwd, env=os.environ | self.environment, stdin=subprocess.DEVNULL)
        try:
            code = process.wait()
        finally:  # a signal may have ended the wait
            process.terminate()
            process.wait()
        if code not in (0, 1):  # 1: rows have failed, and say why
            raise RuntimeError(f"exit code {code}: {' '.join(self.words)}")
        return code

    def checkpoint(self) -> Any:
        """What to queue when the job is preempted: the same, which goes on from the store."""
        return submitit.helpers.DelayedSubmission(self)


def run(plan: Plan, out: Path, jobs: int, settings: Sequence[str], plugins: Sequence[Path], listen: Listen) -> list[Record]:
    """Run a sweep whose `config.yaml` is in `out` as so many jobs and one that collects; wait, and return its records.

    settings: `key=value` for submitit, as partition=gpu. On KeyboardInterrupt the jobs are cancelled.
    """
    executor = _executor(out / LOGS, settings)
    words = [sys.executable, "-m", "loreun_bench", "sweep", str(out.resolve() / "config.yaml"), "--out", str(out.resolve())]
    words += [word for path in plugins for word in ("--plugin", str(path.resolve()))]
    folders = {"LOREUN_STORE": str(default_root().resolve()), "LOREUN_DATA": str(data_root().resolve())}
    most = max(1, min(jobs, sum(bool(cell.record.seeds) for cell in plan.cells)))
    parts = [Part((*words, "--shard", f"{k}/{most}"), os.getcwd(), folders) for k in range(1, most + 1)]
    rows = _Rows(plan, out, listen)
    _wait(_submitted(executor, parts), rows)
    _wait(_submitted(executor, [Part(tuple(words), os.getcwd(), folders)]), rows)
    return rows.all()


class _Rows:
    """The rows that jobs have written, each told once."""

    def __init__(self, plan: Plan, out: Path, listen: Listen) -> None:
        self.plan, self.out, self.listen = plan, out, listen
        self._cells = {cell.record.cell for cell in plan.cells}
        self._told = self._read()

    def look(self) -> None:
        """Tell of those that are new."""
        found = self._read()
        for cell, record in found.items():
            if self._told.get(cell) != record:
                self.listen(Event("record", record=record))
        self._told = found

    def all(self) -> list[Record]:
        """One for each cell, in the plan's order: that no job has written has failed."""
        lost = Outcome("failed", f"its job ended without it: see the logs in {self.out / LOGS}")
        return [self._told.get(cell.record.cell) or results.failed(cell, lost, "") for cell in self.plan.cells]

    def _read(self) -> dict[Any, Record]:
        found = load_records(self.out) if (self.out / "records.jsonl").is_file() else []
        return {record.cell: record for record in found if record.cell in self._cells}


@contextlib.contextmanager
def _submitted(executor: Any, parts: Sequence[Part]) -> Iterator[list[Any]]:
    """The jobs; cancelled if what is inside is interrupted."""
    try:
        with executor.batch():  # one array
            jobs = [executor.submit(part) for part in parts]
    except Exception as error:  # sbatch says why
        raise UserError(f"Slurm took no job: {' '.join(str(error).split())[-200:]}") from error
    try:
        yield jobs
    except BaseException:
        for job in jobs:
            with contextlib.suppress(Exception):
                job.cancel()
        raise


def _wait(submitted: contextlib.AbstractContextManager[list[Any]], rows: _Rows) -> None:
    """Wait for jobs; meanwhile tell of the rows that they write, then of jobs that failed."""
    with submitted as jobs:
        names = ", ".join(job.job_id for job in jobs)
        rows.listen(Event("note", text=f"jobs {names}; their logs are in {rows.out / LOGS}"))
        while not all(job.done() for job in jobs):
            rows.look()
            time.sleep(LOOK)
        rows.look()
        for job in jobs:
            if error := job.exception():
                said = str(error).strip().splitlines()[-1:]
                rows.listen(Event("note", text=f"job {job.job_id} failed: {''.join(said)[:200]}"))


def chosen(settings: Sequence[str]) -> dict[str, Any]:
    """The settings, as submitit calls them. UserError if one is none, or there is no Slurm here."""
    found = {"timeout_min": MINUTES, "name": "loreun", "cluster": "slurm"} | dict(map(_setting, settings))
    if found["cluster"] == "slurm" and shutil.which("sbatch") is None:
        raise UserError("--engine slurm: there is no sbatch here: start the sweep where jobs are submitted, or try it on "
                        "this machine with --slurm cluster=local")  # fmt: skip
    return {name if name in (*COMMON, "cluster") else f"slurm_{name}": value for name, value in found.items()}


def _executor(folder: Path, settings: Sequence[str]) -> Any:
    """Submitit's executor. UserError if it does not know a setting."""
    parameters = chosen(settings)
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=parameters.pop("cluster"))
        executor.update_parameters(**parameters)
    except Exception as error:
        raise UserError(f"--slurm {' '.join(settings)}: {' '.join(str(error).split())[:200]}") from error
    return executor


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise UserError(f"--slurm {text}: give key=value, as partition=gpu or timeout_min=120")
    return name.removeprefix("slurm_"), int(value) if value.isdecimal() else value
