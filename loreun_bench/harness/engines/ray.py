"""The engine that runs stages on a Ray cluster: one that is there, or with no address one of this machine alone.

Ray finds a machine with room for each stage and, when that or its worker is lost, another; `node` is what happens there.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from loreun_bench.errors import UserError
from loreun_bench.harness import shipping
from loreun_bench.harness.engines import node
from loreun_bench.harness.engines.node import Answer, Order
from loreun_bench.harness.environment import cores
from loreun_bench.harness.shipping import Parcel
from loreun_bench.harness.store import data_root
from loreun_bench.harness.work import Outcome, Task, failed

try:
    import ray
    from ray import exceptions as lost
except ImportError as error:
    raise UserError(f"--engine ray: Ray cannot be imported ({error}): pip install 'loreun-bench[ray]'") from error

RETRIES = 3  # of a stage whose worker or machine is lost
LOOK = 1.0  # seconds between two looks at what the cluster has
KEPT = 64  # inputs that stay in Ray's memory for the next stage
CLOSES = 10.0  # seconds that cancelled stages have to end
MOST = 1024  # stages at a time


class RayEngine:
    """Stages on a Ray cluster, each with a CPU and on a GPU a share of one. workers: at most so many at a time."""

    def __init__(
        self, address: str | None, workers: int | None, device: str, modules: Sequence[str] = (), gpus_per_stage: float = 1.0
    ) -> None:
        self._gpus = _share(gpus_per_stage) if device == "cuda" else 0.0
        self._modules, self._workers = tuple(sorted(set(modules))), workers or MOST
        self._started = not ray.is_initialized()
        if self._started:
            _connect(address, workers)
        if self._gpus and not ray.cluster_resources().get("GPU"):
            self._leave()
            raise UserError("device cuda: the Ray cluster has no GPU; use --device cpu, or start its machines with GPUs")
        self._run = ray.remote(num_cpus=1, num_gpus=self._gpus, max_retries=RETRIES)(_answer)
        self._threads = ThreadPoolExecutor(MOST)
        self._lock = threading.Lock()
        self._running: set[Any] = set()
        self._sent: OrderedDict[tuple[str, str], Any] = OrderedDict()  # inputs by key and digest: Ray's name for the files
        self._apart = self._closed = False  # apart: some machine does not see the store
        self._capacity, self._looked = 1, -math.inf

    def submit(self, task: Task) -> Future[Outcome]:
        """Send the task to the cluster."""
        return self._threads.submit(self._follow, task)

    def capacity(self) -> int:
        """How many stages the machines have room for, as far as they are there now; one at least, which waits for them."""
        if time.monotonic() - self._looked >= LOOK:
            self._looked = time.monotonic()
            has = ray.cluster_resources()
            room = has.get("CPU", 0.0) if not self._gpus else min(has.get("CPU", 0.0), has.get("GPU", 0.0) / self._gpus)
            self._capacity = max(1, min(int(room + 1e-6), self._workers))
        return self._capacity

    def close(self) -> None:
        """End the stages under way and leave the cluster, which ends if it was started here."""
        with self._lock:
            self._closed = True
            running = list(self._running)
        for reference in running:
            with contextlib.suppress(Exception):
                ray.cancel(reference, force=True)
        if running:
            ray.wait(running, num_returns=len(running), timeout=CLOSES)
        self._leave()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _leave(self) -> None:
        if self._started:
            ray.shutdown()

    def _follow(self, task: Task) -> Outcome:
        """Send a task and wait for its end; once more with its inputs, if its machine asks for them."""
        try:
            order = self._order(task)
            answer = self._answer(replace(order, inputs=self._inputs(task)) if self._apart else order)
            if answer.asks:
                self._apart = True
                answer = self._answer(replace(order, inputs=self._inputs(task)))
            return self._received(task, answer)
        except Exception as error:
            return _outcome(error)

    def _answer(self, order: Order) -> Answer:
        with self._lock:
            if self._closed:
                raise UserError("the sweep has ended")
            reference = self._run.options(name=order.task.stage.label or order.task.stage.run).remote(order)
            self._running.add(reference)
        try:
            return ray.get(reference)  # type: ignore[no-any-return]
        finally:
            with self._lock:
                self._running.discard(reference)

    def _order(self, task: Task) -> Order:
        """The task without what only planning needs: this package's own files, which lie elsewhere there, and the stages
        before it."""
        parcel = shipping.pack(task) if task.stage.plugins else Parcel({}, os.getcwd())
        stage = replace(task.stage, sources=task.stage.plugins, inputs={})
        return Order(replace(task, stage=stage), node.versions(), str(data_root()), self._modules, parcel)

    def _inputs(self, task: Task) -> dict[str, Any]:
        """The files of a task's inputs in Ray's memory, from which each machine takes them once. Raises Corrupt."""
        found = {}
        for name, artifact in task.inputs.items():
            about = artifact.key, artifact.digest
            with self._lock:
                sent = self._sent.get(about)
            if sent is None:
                sent = ray.put(task.store.packed(artifact))
            with self._lock:
                self._sent[about] = found[name] = sent
                self._sent.move_to_end(about)
                while len(self._sent) > KEPT:
                    self._sent.popitem(last=False)
        return found

    def _received(self, task: Task, answer: Answer) -> Outcome:
        """Put what came back into the store."""
        made = answer.outcome.artifact
        if made is None or not answer.files:
            return answer.outcome
        artifact = task.store.unpack(made.key, answer.files, task.replace)
        if task.stage.plugins:
            task.store.note_used(task.key, artifact.manifest["used"])
        return replace(answer.outcome, artifact=artifact)


def _answer(order: Order) -> Answer:
    """On a machine of the cluster."""
    return node.answer(order, ray.get)


def _outcome(error: Exception) -> Outcome:
    """What a stage comes to that has no outcome of its own."""
    if isinstance(error, lost.OutOfMemoryError):
        return Outcome("oom", "its machine ran out of memory, and Ray ended it")
    if isinstance(error, (lost.WorkerCrashedError, lost.NodeDiedError, lost.ObjectLostError)):
        return Outcome("failed", f"its worker or machine was lost, {RETRIES + 1} times: see the logs of Ray")
    if isinstance(error, lost.TaskCancelledError):
        return Outcome("failed", "ended with the sweep")
    if isinstance(error, lost.RayError):
        said = failed(error.cause if isinstance(error, lost.RayTaskError) else error).reason
        return Outcome("failed", f"a machine of the cluster could not take it: is the same loreun-bench there? {said}"[:300])
    return failed(error)


def _connect(address: str | None, workers: int | None) -> None:
    """Join a cluster, or start one of this machine. UserError if that cannot be."""
    if address is not None and address.startswith("ray://"):
        raise UserError(f"--address {address}: Ray's client is not served: start the sweep on a machine of the cluster, "
                        f"with --address auto")  # fmt: skip
    own: dict[str, Any] = {"num_cpus": workers or cores(), "include_dashboard": False} if address in (None, "local") else {}
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with _signals_kept():
        try:
            ray.init(address or "local", log_to_driver=False, logging_level="ERROR", **own)
        except (OSError, RuntimeError, ValueError) as error:
            what = f"--address {address}: no Ray cluster can be reached" if address else "Ray cannot be started"
            raise UserError(f"{what} ({' '.join(str(error).split())[:200]}): see docs/scale.md") from error


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """What is done on a signal inside stays as it was."""
    main = threading.current_thread() is threading.main_thread()
    before: Mapping[int, Any] = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)} if main else {}
    try:
        yield
    finally:
        for each, how in before.items():
            signal.signal(each, how)


def _share(gpus: float) -> float:
    if not gpus > 0 or (gpus > 1 and gpus != int(gpus)):
        raise UserError(f"--gpus-per-stage {gpus:g}: give a share of a GPU, as 0.25, or a whole number")
    return gpus
