"""The process of a stage that runs the user's code, and the one above it, which guards it (Linux).

The guard leads a session of its own, so that no signal to "my group" or "my parent" reaches other rows, and adopts what the
stage leaves behind, so that it can end it: when the stage is done, has died, is told to end, or when the sweep is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import getpass
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing import Pipe, forkserver, parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from loreun_bench.harness.work import Outcome, Task, execute, failed, prepare

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # of prctl
POLL = 0.1  # seconds between two looks at whether the stage's process lives
TRIES = 500  # to end what a stage has left, a hundredth of a second each
DIED = "the worker process died: killed, out of memory, or ended by the code it ran"

_stage: tuple[int, Connection] | None = None
_folder: Path | None = None


class Killed(Exception):
    """The stage's process was ended from outside: perhaps by another row."""


def begin(task: Task, folder: Path) -> None:
    """Start the task's process, whose temporary files go to `folder`; return when it is ready."""
    global _stage, _folder
    os.setsid()
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    _folder = folder
    folder.mkdir(parents=True, exist_ok=True)
    ours, theirs = Pipe()
    guard = os.getpid()
    if (pid := os.fork()) == 0:
        try:
            ours.close()
            _be_the_stage(task, theirs, guard)
        finally:
            os._exit(1)
    theirs.close()
    _stage = pid, ours
    signal.signal(signal.SIGTERM, lambda *_: _end())
    threading.Thread(target=_follow_sweep, daemon=True).start()
    _receive(pid, ours)


def run(task: Task) -> Outcome:
    """Run the task in the process that was begun for it. Killed if a signal from outside has ended it."""
    assert _stage is not None
    pid, pipe = _stage
    with contextlib.suppress(OSError):
        pipe.send(None)
    outcome = _receive(pid, pipe)
    if isinstance(outcome, Outcome):
        return outcome
    if outcome in (-signal.SIGKILL, -signal.SIGTERM):
        raise Killed
    return Outcome("failed", DIED)


def _be_the_stage(task: Task, pipe: Connection, guard: int) -> None:
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != guard:
        return
    server: Any = forkserver._forkserver
    server.__init__()  # what it forks itself is not a child of the server that all rows have in common
    _take_folder()
    error: BaseException | None = None
    try:
        prepare(task)
    except BaseException as raised:
        error = raised
    pipe.send(None)
    pipe.recv()
    pipe.send(execute(task) if error is None else failed(error))


def _take_folder() -> None:
    """Temporary files go to the stage's folder; what is compiled is kept where it is for all."""
    with contextlib.suppress(Exception):  # of a user without a name
        kept = os.path.join(tempfile.gettempdir(), f"torchinductor_{getpass.getuser()}")
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", kept)
    os.environ["TMPDIR"] = tempfile.tempdir = str(_folder)


def _receive(pid: int, pipe: Connection) -> Any:
    """What the process sends; if it has ended, its exit code. (What it has started may hold its end of the pipe.)"""
    while not pipe.poll(POLL):
        with contextlib.suppress(ChildProcessError):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            continue
        return None
    try:
        return pipe.recv()
    except (EOFError, OSError):
        with contextlib.suppress(ChildProcessError):
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return None


def _follow_sweep() -> None:
    sweep = parent_process()
    if sweep is not None:
        sweep.join()
        _end()


def _end() -> None:
    """End everything below this process, and it."""
    for _ in range(TRIES):
        below = _below(os.getpid())
        if not below:
            break
        for pid in below:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        _collect()
        time.sleep(0.01)
    if _folder is not None:
        shutil.rmtree(_folder, ignore_errors=True)
    os._exit(0)


def _collect() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _below(top: int) -> list[int]:
    """The living processes that descend from one."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            if state not in "ZX":
                children.setdefault(int(parent), []).append(int(path.parent.name))
    found, waiting = [], [top]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def _prctl(option: int, value: int) -> None:
    prctl: Callable[..., int] = ctypes.CDLL(None, use_errno=True).prctl
    prctl(option, value, 0, 0, 0)
