"""Run one stage in this process: inputs from the store, result into the store, any failure turned into an outcome."""

from __future__ import annotations

import errno
import os
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from loreun_bench.errors import Diverged, UserError
from loreun_bench.harness import environment, progress
from loreun_bench.harness.stage import Stage
from loreun_bench.harness.store import Corrupt, Store

OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")


@dataclass(frozen=True)
class Task:
    """A stage ready to run: its key, and its inputs' keys."""

    stage: Stage
    key: str
    inputs: Mapping[str, str]
    store: Path
    device: str


@dataclass(frozen=True)
class Outcome:
    """How a stage ended: status as in a record, one line of reason, wall seconds; whether an input was lost or damaged."""

    status: str = "ok"
    reason: str = ""
    seconds: float = 0.0
    lost: bool = False


def execute(task: Task) -> Outcome:
    """Run the task. Never raises but for KeyboardInterrupt: a failure is an outcome with a reason."""
    start = time.perf_counter()
    try:
        _run(task, start)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a method may even call sys.exit
        if os.environ.get("LOREUN_DEBUG"):
            traceback.print_exc()
        return Outcome(classify(error), _reason(error), time.perf_counter() - start, isinstance(error, Corrupt))
    return Outcome(seconds=time.perf_counter() - start)


def classify(error: BaseException) -> str:
    """The record status that an exception stands for."""
    if isinstance(error, Diverged):
        return "diverged"
    text = _text(error).lower()  # libraries raise classes of their own
    if isinstance(error, MemoryError) or any(words in text for words in OUT_OF_MEMORY):
        return "oom"
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "no space left on device" in text:
        return "disk_full"
    return "failed"


def _run(task: Task, start: float) -> None:
    from loreun_bench.ops.functional import backend

    store = Store(task.store)
    inputs = {}
    for name, key in task.inputs.items():
        artifact = store.verified(key)
        if artifact is None:
            raise Corrupt(f"input '{name}' is missing or was corrupt and is set aside; run the command again")
        inputs[name] = artifact
    with progress.told_in(store.progress_file(task.key)):
        output = task.stage.function()(task.stage.config, inputs, task.device)
    about = {
        "label": task.stage.label, "run": task.stage.run, "backend": backend(task.device),
        "environment": environment.describe(task.device), "seconds": time.perf_counter() - start,
    }  # fmt: skip
    store.put(task.key, output, about)


def _text(error: BaseException) -> str:
    try:
        return " ".join(str(error).split())
    except Exception:  # an exception whose own __str__ fails
        return ""


def _reason(error: BaseException) -> str:
    """One line of at most 300 characters; for a bug, with the place it happened."""
    text = _text(error)
    if not isinstance(error, (Diverged, UserError, Corrupt)):
        last = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__}: {text} ({Path(last.filename).name}:{last.lineno})"
    return text[:300]
