"""The local engine: processes on this machine, one torch thread each.

Our own stages share warm ones, which are replaced when they die. A stage that runs the user's code has one to itself, so
that what such code does to a process ends with it. Whoever's process ends unexplained while the user's code ran beside it
runs once more with nothing beside it: one row cannot end another's, nor the server that all are forked from.

On Linux all are forked from a server that has imported what stages need, in about 20 ms; elsewhere each imports it anew.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
import uuid
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

from loreun_bench.harness import scratch
from loreun_bench.harness.engines.guard import DIED, Killed
from loreun_bench.harness.ranks import bare, follow_parent
from loreun_bench.harness.work import Outcome, Task, execute, failed, prepare

PRELOAD = "loreun_bench.harness.engines.preload"
LINUX = sys.platform == "linux"
TRIES, PAUSE = 5, 0.1  # to start a process, and seconds between
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)


@dataclass(eq=False)
class _Job:
    """A task and its result. alone: it runs again, with nothing beside it."""

    task: Task
    result: Future[Outcome] = field(default_factory=Future)
    alone: bool = False

    @property
    def own(self) -> bool:
        """Whether it needs a process of its own."""
        return bool(self.task.stage.plugins)


class LocalEngine:
    """Up to `workers` processes at a time; each is a single-worker pool, so that one that dies takes nothing else with it.

    modules: those that stages are in, which are imported before the processes start.
    """

    def __init__(self, workers: int, modules: Sequence[str] = ()) -> None:
        self._context = _context(modules)
        self._lock = threading.RLock()
        self._queue: deque[_Job] = deque()
        self._idle: list[_Worker] = []
        self._busy: dict[_Job, _Worker] = {}
        self._threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()  # the pools', until they have ended
        self._workers = workers
        self._closed = self._doubt = False

    def submit(self, task: Task) -> Future[Outcome]:
        """Run the task: on an idle worker, or on one of its own."""
        job = _Job(task)
        with self._lock:
            self._queue.append(job)
            self._advance()
        return job.result

    def capacity(self) -> int:
        """The number of workers."""
        return self._workers

    def close(self) -> None:
        """Kill the workers; the store holds only whole artifacts, so nothing is lost but the stages under way.

        The pools' threads have ended on return: one that still does while Python ends trips over its closed pipe.
        """
        with self._lock:
            self._closed = True
            for worker in [*self._idle, *self._busy.values()]:
                worker.kill()
            threads = list(self._threads)
        for thread in threads:  # each calls `_done` once more, which needs the lock
            thread.join()

    def _advance(self) -> None:
        """Start what waits, as far as nothing is to run alone."""
        while self._queue and not self._closed:
            if self._busy and (self._queue[0].alone or any(job.alone for job in self._busy)):
                return
            self._start(self._queue.popleft())

    def _start(self, job: _Job) -> None:
        started = self._launch(job)
        if isinstance(started, Outcome):
            job.result.set_result(started)
            return
        worker, future = started
        worker.met = worker.met or self._meets_own()
        if job.own:
            for other in [*self._idle, *self._busy.values()]:
                other.met = True
        self._busy[job] = worker
        future.add_done_callback(lambda future: self._done(job, worker, future))

    def _launch(self, job: _Job) -> tuple[_Worker, Future[Outcome]] | Outcome:
        """A worker that runs the job; how it failed if none comes up. An idle one may have died, the server, too."""
        reason = DIED
        for _ in range(TRIES):
            if self._doubt and not self._busy:
                self._begin_anew()
            idle = self._idle and not (job.own or job.alone)
            try:
                worker = self._idle.pop() if idle else self._worker(job.own)
                return worker, worker.start(job.task)
            except KeyboardInterrupt:
                self._begin_anew()  # the server would still start a process that finds nobody
                raise
            except (BrokenProcessPool, EOFError):
                reason = DIED
            except OSError as error:  # of memory that processes share, of files, of processes there are no more
                reason = f"no worker process starts: {error.strerror} (/dev/shm and {tempfile.gettempdir()} need room)"
            self._doubt = True
            time.sleep(PAUSE)
        return Outcome("failed", reason)

    def _worker(self, own: bool) -> _Worker:
        worker = _Worker(self._context, own)
        self._threads.add(worker.thread)
        return worker

    def _begin_anew(self) -> None:
        """End the server, and the idle workers that it has started: whether it is about to die cannot be seen."""
        self._doubt = False
        while self._idle:
            self._idle.pop().kill()
        if LINUX and (server := forkserver._forkserver._forkserver_pid) is not None:  # type: ignore[attr-defined]
            with contextlib.suppress(OSError):
                os.kill(server, KILL)
                os.waitid(os.P_PID, server, os.WEXITED | os.WNOWAIT)  # it is collected when the next is started

    def _meets_own(self) -> bool:
        return any(job.own for job in self._busy)

    def _done(self, job: _Job, worker: _Worker, future: Future[Outcome]) -> None:
        with self._lock:
            outcome, alive = worker.read(future)
            del self._busy[job]
            self._doubt = self._doubt or outcome is None
            again = outcome is None and worker.met and not job.alone and not self._closed
            if job.own or self._closed or not alive:
                worker.kill()
            else:
                worker.met = self._meets_own()
                self._idle.append(worker)
            if again:
                job.alone = True
                self._queue.appendleft(job)
            self._advance()
        if not again:
            job.result.set_result(outcome or Outcome("failed", DIED))


class _Worker:
    """One process: warm, or (`own`) a task's own and its guard. met: the user's code has run beside it since it last proved
    to be alive."""

    def __init__(self, context: Any, own: bool) -> None:
        self._own, self._timed_out, self.met = own, False, False
        with bare():
            about = dict(os.environ), own
            self._pool = ProcessPoolExecutor(1, mp_context=context, initializer=_begin, initargs=about)
            self._pid = self._pool.submit(os.getpid)
        self.thread: Any = self._pool._executor_manager_thread

    def start(self, task: Task) -> Future[Outcome]:
        """Run the task; its time limit counts from when the process is ready."""
        self._limit = task.stage.timeout_s
        ready = self._pool.submit(_prepare, task, scratch.folder() / uuid.uuid4().hex[:8]) if self._own else self._pid
        future = self._pool.submit(_run, task) if self._own else self._pool.submit(execute, task)
        if self._limit is not None:
            timer = threading.Timer(self._limit, self._expire, [future])
            timer.daemon = True
            future.add_done_callback(lambda _: timer.cancel())
            ready.add_done_callback(lambda _: timer.start())
        return future

    def read(self, future: Future[Outcome]) -> tuple[Outcome | None, bool]:
        """The outcome, None if the process died unexplained, and whether the worker can go on."""
        try:
            return future.result(), True
        except (BrokenProcessPool, Killed):
            timeout = Outcome("timeout", f"ran longer than timeout_s = {self._limit:g}") if self._timed_out else None
            return timeout, False
        except BaseException as error:
            return failed(error), True

    def kill(self) -> None:
        """End the process at once, and all that the user's code has started."""
        with contextlib.suppress(Exception):
            pid = self._pid.result(timeout=60)
            if self._own and LINUX:
                _end_guard(pid)
            else:
                os.kill(pid, KILL)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _expire(self, future: Future[Outcome]) -> None:
        if not future.done():
            self._timed_out = True
            self.kill()


def _end_guard(pid: int) -> None:
    """Have a guard end what it guards; if it is gone, end its session."""
    try:
        for number in (signal.SIGTERM, signal.SIGCONT):  # it may have been stopped
            os.kill(pid, number)
    except ProcessLookupError:
        os.killpg(pid, KILL)


def _context(modules: Sequence[str]) -> Any:
    """How processes start. A server that was started with other modules gives way."""
    if not LINUX:
        return multiprocessing.get_context("spawn")
    server: Any = forkserver._forkserver
    packages = dict.fromkeys(module.rpartition(".")[0] for module in modules if "." in module)
    wanted = [PRELOAD, *(f"{package}.preload" for package in packages)]
    if server._preload_modules != wanted and hasattr(server, "_stop"):
        server._stop()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(wanted)
    with bare(), scratch.used():
        forkserver.ensure_running()
    return context


def _begin(environment: Mapping[str, str], own: bool) -> None:
    """In the process: leave Ctrl-C to the parent, die with it, load torch once with one thread."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not (own and LINUX):
        threading.Thread(target=follow_parent, daemon=True).start()
    os.environ.clear()
    os.environ.update(environment)
    import torch

    torch.set_num_threads(1)


def _prepare(task: Task, folder: Path) -> None:
    if LINUX:
        from loreun_bench.harness.engines import guard

        guard.begin(task, folder)
    else:
        prepare(task)


def _run(task: Task) -> Outcome:
    from loreun_bench.harness.engines import guard

    how: Callable[[Task], Outcome] = guard.run if LINUX else execute
    return how(task)
