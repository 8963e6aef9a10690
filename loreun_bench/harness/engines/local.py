"""The local engine: warm worker processes on this machine, one torch thread each, replaced when they die."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from loreun_bench.harness.work import Outcome, Task, execute


class LocalEngine:
    """`workers` processes; each is its own single-worker pool, so that one that dies takes nothing else with it."""

    def __init__(self, workers: int, plugins: tuple[Path, ...] = ()) -> None:
        self._plugins = plugins
        self._idle = [_Worker(plugins) for _ in range(workers)]
        self._busy: list[_Worker] = []
        self._workers = workers
        self._closed = False

    def submit(self, task: Task) -> Future[Outcome]:
        """Run the task on an idle worker."""
        worker = self._idle.pop()
        try:
            future = worker.start(task)
        except BrokenProcessPool:  # it died while it was idle
            worker = _Worker(self._plugins)
            future = worker.start(task)
        self._busy.append(worker)
        result: Future[Outcome] = Future()

        def done(future: Future[Outcome]) -> None:
            outcome, alive = worker.read(future)
            self._busy.remove(worker)
            if not self._closed:
                self._idle.append(worker if alive else _Worker(self._plugins))
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
    """One warm process."""

    def __init__(self, plugins: tuple[Path, ...]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(1, mp_context=context, initializer=_prepare, initargs=(plugins,))
        self._pid = self._pool.submit(os.getpid)  # done when the worker is ready
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
            return Outcome(
                "failed", "the worker process died: killed, out of memory, or a script without `if __name__ == '__main__'`"
            ), False
        except BaseException as error:
            return Outcome("failed", f"{type(error).__name__}: {error}"[:300]), True

    def kill(self) -> None:
        """End the process at once."""
        with contextlib.suppress(Exception):
            os.kill(self._pid.result(timeout=60), signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _expire(self, future: Future[Outcome]) -> None:
        if not future.done():
            self._timed_out = True
            self.kill()


def _prepare(plugins: tuple[Path, ...]) -> None:
    """In the worker: leave Ctrl-C to the parent, die with it, load torch once with one thread."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
    import torch

    torch.set_num_threads(1)
    from loreun_bench.registry import load_plugin

    for plugin in plugins:
        load_plugin(plugin)


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
