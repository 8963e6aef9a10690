"""Run one stage in this process: inputs from the store, result into the store, any failure turned into an outcome."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import time
import traceback
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from loreun_bench import beside, plugins
from loreun_bench.errors import Diverged, UserError, shortened
from loreun_bench.harness import environment, files_used, progress, ranks, resuming
from loreun_bench.harness.stage import Output, Stage
from loreun_bench.harness.store import Artifact, Corrupt, Store
from loreun_bench.registry import homes

if TYPE_CHECKING:
    from loreun_bench.harness.watch import Watch

LONGEST = 300  # characters of a reason
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")

_anew = False
_prepared: dict[str, Watch | BaseException] = {}  # of a process that belongs to one task


@dataclass(frozen=True)
class Task:
    """A stage ready to run: its own key (without the user's files that it will use), and its inputs as they were found.

    load: the plug-in files, or modules, that define what of the user's it runs; code: the hashes of those files as they
    were planned with; replace: its artifact, if there is one, is to give way.
    """

    stage: Stage
    key: str
    inputs: Mapping[str, Artifact]
    store: Store
    device: str
    load: tuple[str, ...] = ()
    code: Mapping[str, str] = field(default_factory=dict)
    replace: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a stage ended: status as in a record, one line of reason, wall seconds; whether an input was lost or damaged; what
    it made, where it ended well; the traceback of what it raised."""

    status: str = "ok"
    reason: str = ""
    seconds: float = 0.0
    lost: bool = False
    artifact: Artifact | None = None
    trace: str = ""


def execute(task: Task) -> Outcome:
    """Run the task. Never raises but for KeyboardInterrupt: a failure is an outcome with a reason."""
    start = time.perf_counter()
    try:
        artifact = _run(task, start)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a method may even call sys.exit
        if os.environ.get("LOREUN_DEBUG"):
            traceback.print_exc()
        return _ended(task.store, error, time.perf_counter() - start)
    return Outcome(seconds=time.perf_counter() - start, artifact=artifact)


def failed(error: BaseException, seconds: float = 0.0) -> Outcome:
    """The outcome of a stage that raised."""
    if isinstance(error, ranks.Failed):
        found: Outcome = error.outcome
        return replace(found, seconds=seconds)
    trace = "".join(traceback.format_exception(error))
    return Outcome(classify(error), _reason(error), seconds, isinstance(error, Corrupt), trace=trace)


def _ended(store: Store, error: BaseException, seconds: float = 0.0) -> Outcome:
    """The outcome of a stage that raised; what goes with the store, as when somebody deletes it, is lost and no bug."""
    if isinstance(error, FileNotFoundError) and str(error.filename).startswith(f"{store.root}{os.sep}"):
        lost = Corrupt(f"{error.filename} vanished")
        lost.__cause__ = error
        return failed(lost, seconds)
    return failed(error, seconds)


def prepare(task: Task) -> None:
    """Make this process the task's own: load what of the user's it runs, and watch from then on what that uses. What goes
    wrong is told when the task is executed. This is before its time limit begins."""
    from loreun_bench.harness import openers, watching

    try:
        plugins.own_process()
        openers.follow()
        watch = watching.begin(task.stage.plugins, _log(task))
        _load(task)
        _prepared[task.key] = watch
    except BaseException as error:
        _prepared[task.key] = error


def _load(task: Task) -> None:
    """Load what of the user's the task runs. UserError if a file has changed since the task was planned."""
    if files_used.plugin_digests(task.stage) != task.code:
        names = ", ".join(path.name for path in task.stage.plugins)
        raise UserError(f"{names} changed while the sweep ran: run the same command again")
    for origin in task.load:
        if origin.endswith(".py"):
            with plugins.blamed(Path(origin), "plug-in"):
                plugins.load_module(Path(origin))
        else:
            importlib.import_module(origin)


def anew() -> bool:
    """Whether the stage under way is to take nothing from what an earlier run of it left outside the store."""
    return _anew


def _log(task: Task) -> Path:
    task.store.tmp.mkdir(parents=True, exist_ok=True)
    return task.store.tmp / f"{task.key}.files"


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


def _run(task: Task, start: float) -> Artifact:
    """Run the stage and return its artifact."""
    global _anew
    store, _anew = task.store, task.replace
    for name, artifact in task.inputs.items():
        if not store.sound(artifact):
            raise Corrupt(f"input '{name}' is missing or was corrupt and is set aside")
    if (count := task.stage.config.get("ranks", 1)) > 1:
        folder = store.tmp / f"{uuid.uuid4().hex}.ranks"
        found: Artifact = ranks.run(count, task.device, folder, partial(_run_rank, task), partial(_ended, store))
        return found
    used, checkpoints = dict[str, str | None](), Path(f"{store.root}/checkpoints/{task.key}")
    with progress.told_in(store.progress_file(task.key)), _watching(task, used) as watch:
        function = partial(task.stage.function(), task.stage.config, task.inputs, task.device)
        output = resuming.run(checkpoints, task.device, task.replace, function, watch)
    artifact = _keep(task, output, used, start)
    resuming.remove(checkpoints)
    return artifact


def _run_rank(task: Task, rank: int) -> Artifact | None:
    """In a process of its own: run the stage as one of its ranks; the first keeps the result and returns it."""
    global _anew
    start, used, _anew = time.perf_counter(), dict[str, str | None](), task.replace
    with contextlib.ExitStack() as stack:
        if rank == 0:
            if task.stage.plugins:
                prepare(task)
            stack.enter_context(progress.told_in(task.store.progress_file(task.key)))
            stack.enter_context(_watching(task, used))
        elif task.stage.plugins:
            plugins.own_process()
            _load(task)
        output = ranks.agreed(task.stage.function()(task.stage.config, task.inputs, task.device))
    return _keep(task, output, used, start) if rank == 0 else None


def _keep(task: Task, output: Output, used: dict[str, str | None], start: float) -> Artifact:
    """Put what the stage made into the store, and return it."""
    from loreun_bench.ops.functional import backend

    about = {
        "label": task.stage.label, "run": task.stage.run, "backend": backend(task.device), "used": used,
        "environment": environment.describe(task.device), "versions": environment.versions(),
        "seconds": time.perf_counter() - start,
    }  # fmt: skip
    if task.stage.plugins:
        about["lease"] = task.key
        task.store.note_used(task.key, used)
    return task.store.put(files_used.key_with(task.key, used), output, about, task.replace)


@contextlib.contextmanager
def _watching(task: Task, used: dict[str, str | None]) -> Iterator[Watch | None]:
    """Fill `used` with the files of the user's that the stage uses inside, if it runs code of theirs."""
    if not task.stage.plugins:
        yield None
    elif task.key in _prepared:
        watch = _prepared.pop(task.key)
        if isinstance(watch, BaseException):
            raise watch
        yield watch
        used |= _names(task, watch)
    else:  # in the caller's process, as far as that goes
        from loreun_bench.harness import openers, watching

        openers.follow()
        plugins.refresh(always=True)  # so that its imports are seen
        with plugins.undisturbed(stage=True), watching.watched(task.stage.plugins, _log(task)) as watch:
            _load(task)
            yield watch
            used |= _names(task, watch)


def _names(task: Task, watch: Watch) -> dict[str, str | None]:
    """What the stage has used. UserError if two projects' code was mixed in it."""
    beside.check(homes(task.stage.plugins))
    return watch.names()


def _text(error: BaseException) -> str:
    try:
        return " ".join(str(error).split())
    except Exception:  # an exception whose own __str__ fails
        return ""


def _reason(error: BaseException) -> str:
    """One line of at most LONGEST characters; for a bug, with the place it happened: in the user's code, if there."""
    text = _text(error)
    if not isinstance(error, (Diverged, UserError, Corrupt)):
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if plugins.is_users(frame.filename)]
        last = own[-1] if own else frames[-1]
        place = f" ({Path(last.filename).name}:{last.lineno})"
        text = f"{type(error).__name__}: {text}"[: LONGEST - len(place)] + place
    return shortened(text, LONGEST)
