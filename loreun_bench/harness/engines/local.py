"""The local engine: processes on this machine, one torch thread each.

Our own stages share warm ones, which are replaced when they die. A stage that runs the user's code has one to itself, so
that what such code does to a process ends with it.

On Linux all are forked from a server that has imported what stages need, in about 20 ms; elsewhere each imports it anew.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import types
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from loreun_bench.harness.work import Outcome, Task, execute, failed, prepare
from loreun_bench.plugins import clean_path

PRELOAD = "loreun_bench.harness.engines.preload"


class LocalEngine:
    """Up to `workers` processes at a time; each is a single-worker pool, so that one that dies takes nothing else with it.

    modules: those that stages are in, which are imported before the processes start.
    """

    def __init__(self, workers: int, modules: Sequence[str] = ()) -> None:
        self._context = _context(modules)
        self._idle: list[_Worker] = []
        self._busy: list[_Worker] = []
        self._workers = workers
        self._closed = False

    def submit(self, task: Task) -> Future[Outcome]:
        """Run the task: on an idle worker, or on one of its own."""
        own = bool(task.stage.plugins)
        worker = self._idle.pop() if self._idle and not own else _Worker(self._context, task if own else None)
        try:
            future = worker.start(task)
        except BrokenProcessPool:  # it died while it was idle
            worker = _Worker(self._context)
            future = worker.start(task)
        self._busy.append(worker)
        result: Future[Outcome] = Future()

        def done(future: Future[Outcome]) -> None:
            outcome, alive = worker.read(future)
            self._busy.remove(worker)
            if own or self._closed:
                worker.kill()
            elif alive:
                self._idle.append(worker)
            result.set_result(outcome)

        future.add_done_callback(done)
        return result

    def capacity(self) -> int:
        """The number of workers."""
        return self._workers

    def close(self) -> None:
        """Kill the workers; the store holds only whole artifacts, so nothing is lost but the stages under way."""
        self._closed = True
        for worker in [*self._idle, *self._busy]:
            worker.kill()


class _Worker:
    """One process: warm, or a task's own."""

    def __init__(self, context: Any, task: Task | None = None) -> None:
        with _bare():
            self._pool = ProcessPoolExecutor(1, mp_context=context, initializer=_begin, initargs=(dict(os.environ),))
            self._pid = self._pool.submit(_ready, task)  # done when the worker is ready
        self._timed_out = False

    def start(self, task: Task) -> Future[Outcome]:
        """Run the task; its time limit counts from when the worker is ready."""
        self._limit = task.stage.timeout_s
        future = self._pool.submit(execute, task)
        if self._limit is not None:
            timer = threading.Timer(self._limit, self._expire, [future])
            timer.daemon = True
            future.add_done_callback(lambda _: timer.cancel())
            self._pid.add_done_callback(lambda _: timer.start())
        return future

    def read(self, future: Future[Outcome]) -> tuple[Outcome, bool]:
        """The outcome, and whether the worker can go on."""
        try:
            return future.result(), True
        except BrokenProcessPool:
            if self._timed_out:
                return Outcome("timeout", f"ran longer than timeout_s = {self._limit:g}"), False
            return Outcome("failed", "the worker process died: killed, out of memory, or ended by the code it ran"), False
        except BaseException as error:
            return failed(error), True

    def kill(self) -> None:
        """End the process at once."""
        with contextlib.suppress(Exception):
            os.kill(self._pid.result(timeout=60), signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _expire(self, future: Future[Outcome]) -> None:
        if not future.done():
            self._timed_out = True
            self.kill()


def _context(modules: Sequence[str]) -> Any:
    """How processes start. A server that was started with other modules gives way."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver

    server: Any = forkserver._forkserver
    packages = dict.fromkeys(module.rpartition(".")[0] for module in modules if "." in module)
    wanted = [PRELOAD, *(f"{package}.preload" for package in packages)]
    if server._preload_modules != wanted and hasattr(server, "_stop"):
        server._stop()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(wanted)
    with _bare():
        forkserver.ensure_running()
    return context


@contextlib.contextmanager
def _bare() -> Iterator[None]:
    """Processes started inside import neither the script that runs this nor what plug-ins have put on the path."""
    main, path = sys.modules["__main__"], sys.path
    sys.modules["__main__"], sys.path = types.ModuleType("__main__"), clean_path()
    try:
        yield
    finally:
        sys.modules["__main__"], sys.path = main, path


def _begin(environment: Mapping[str, str]) -> None:
    """In the process: leave Ctrl-C to the parent, die with it, load torch once with one thread."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
    os.environ.clear()
    os.environ.update(environment)
    import torch

    torch.set_num_threads(1)


def _ready(task: Task | None) -> int:
    """The number of this process, which is ready now: for any stage, or with what one task needs."""
    if task is not None:
        prepare(task)
    return os.getpid()


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
