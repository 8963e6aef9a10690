"""Stages of a sweep, run in processes that kill themselves at given steps."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

from loreun_bench import api
from loreun_bench.harness.files_used import plugin_digests
from loreun_bench.harness.plan import build
from loreun_bench.harness.stage import Stage
from loreun_bench.harness.store import Artifact, Store
from loreun_bench.harness.work import Outcome, Task, execute
from loreun_bench.registry import origins
from loreun_bench.training import loop

OFTEN = 1e-9  # minutes between two checkpoints, of which there is one after every step


class Stages:
    """The stages of a sweep's plan by label, and a store."""

    def __init__(self, config: dict[str, Any], store: Path) -> None:
        self.store = Store(store)
        self.stages = {stage.label: stage for stage in build(api.resolve(config)).stages}
        self._made: dict[str, Artifact] = {}

    def task(self, stage: Stage, **options: Any) -> Task:
        """The stage's, when its inputs are made."""
        inputs = {name: self.made(each) for name, each in stage.inputs.items()}
        key = stage.key({name: each.digest for name, each in inputs.items()})
        own = (origins(stage.plugins), plugin_digests(stage)) if stage.plugins else ((), {})
        return Task(stage, key, inputs, self.store, "cpu", *own, **options)

    def made(self, stage: Stage) -> Artifact:
        """The artifact, made in one go."""
        if stage.recipe not in self._made:
            self._made[stage.recipe] = self.run(self.task(stage))
        return self._made[stage.recipe]

    def run(self, task: Task) -> Artifact:
        """The artifact of a run that comes to its end."""
        outcome = execute(task)
        assert outcome.status == "ok", outcome.trace
        assert outcome.artifact is not None
        found = self.store.verified(outcome.artifact.key)
        assert found is not None
        return found

    def forgotten(self, artifact: Artifact) -> None:
        """As if it had not been made."""
        shutil.rmtree(artifact.folder)

    def folder(self, task: Task) -> Path:
        """Where the task keeps its checkpoints."""
        return self.store.root / "checkpoints" / task.key


def killed(task: Task, step: int) -> None:
    """Run the task in a process that is killed when it begins this step, from 1, of those it does itself."""
    assert ended(task, step) == -signal.SIGKILL


def ended(task: Task, step: int) -> int:
    """Like `killed`, but there may be fewer steps: how the process ended."""
    process = os.fork()
    if not process:
        try:
            begun = iter(range(1, step))
            loop.report = lambda share: next(begun, None) or os.kill(os.getpid(), signal.SIGKILL)
            outcome: Outcome = execute(task)
            if outcome.status != "ok":
                os.write(2, outcome.trace.encode())
        finally:
            os._exit(outcome.status != "ok")
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status)


def checkpoint(stages: Stages, task: Task, number: int = 1) -> Path:
    """The payload of a loop's checkpoint."""
    (found,) = stages.folder(task).glob(f"{number}-*.pt")
    return found
