"""What a machine of a cluster does with a stage that is sent to it: a local engine of one worker runs it, so that processes,
time limits and what the user's code does to them are as on one machine.

If the store of the sweep is here, too, it is used. Otherwise the inputs are asked for, the stage runs on a store of the
machine's own, and the artifact goes back.
"""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from loreun_bench.harness import shipping
from loreun_bench.harness.engines.local import LocalEngine
from loreun_bench.harness.leases import ALIVE, Leases
from loreun_bench.harness.shipping import Parcel
from loreun_bench.harness.stage import code_digest
from loreun_bench.harness.store import Store, data_root, default_root
from loreun_bench.harness.work import Outcome, Task, failed
from loreun_bench.plugins import PACKAGE

PATHS = ("LOREUN_STORE", "LOREUN_DATA")
DEVICES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")

_here = {name: os.environ.get(name) for name in PATHS}  # of the machine
_engine: tuple[Any, LocalEngine] | None = None


@dataclass(frozen=True)
class Order:
    """A task and what the machine needs to run it: the versions and the data folder of who sends it, the modules that stages
    are in, the user's files, and, where the store is not shared, what gets the files of each of its inputs."""

    task: Task
    versions: Mapping[str, str]
    data: str
    modules: tuple[str, ...]
    parcel: Parcel
    inputs: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Answer:
    """The outcome, and what was made if the store is not shared; asks: the inputs are to be sent, as it is not."""

    outcome: Outcome
    files: Mapping[str, bytes] = field(default_factory=dict)
    asks: bool = False


@cache
def versions() -> dict[str, str]:
    """What has to be the same wherever a sweep computes: Python, torch, and this package's code."""
    return {
        "Python": ".".join(platform.python_version_tuple()[:2]), "torch": _version("torch"),
        "loreun_bench": f"{_version('loreun-bench')} (code {code_digest(PACKAGE)[:12]})",
    }  # fmt: skip


def differing(theirs: Mapping[str, str]) -> str:
    """In one line, what is another here than where the sweep was started, and what to do; "" if nothing is."""
    ours = versions()
    words = [f"{name} {ours.get(name)}, not {value}" for name, value in theirs.items() if ours.get(name) != value]
    return f"not run: a machine of the cluster has {'; '.join(words)}: install the same there" if words else ""


def answer(order: Order, get: Callable[[Any], Mapping[str, bytes]]) -> Answer:
    """Run a task that was sent here; `get` fetches an input's files. Never raises but for KeyboardInterrupt."""
    if said := differing(order.versions):
        return Answer(Outcome("failed", said))
    shared = (order.task.store.tmp / ALIVE).is_file()
    if not shared and order.inputs is None and order.task.inputs:
        return Answer(Outcome(), asks=True)
    try:
        if shared:
            return Answer(_run(order, order.task))
        return _apart(order, _own_store(), get)
    except Exception as error:
        return Answer(failed(error))


def _apart(order: Order, store: Store, get: Callable[[Any], Mapping[str, bytes]]) -> Answer:
    """Run a task on a store of this machine's own."""
    inputs = {}
    for name, artifact in order.task.inputs.items():
        found = store.verified(artifact.key)
        if found is None or found.digest != artifact.digest:
            found = store.unpack(artifact.key, get((order.inputs or {})[name]), replace=True)
        inputs[name] = found
    outcome = _run(order, replace(order.task, store=store, inputs=inputs))
    if outcome.status == "disk_full":  # which here is not the sweep's
        return Answer(replace(outcome, status="failed", reason=f"on a machine of the cluster: {outcome.reason}"))
    return Answer(outcome, store.packed(outcome.artifact) if outcome.artifact is not None else {})


def _run(order: Order, task: Task) -> Outcome:
    task, cwd = shipping.unpack(task, order.parcel)
    root = str(task.store.root)
    os.environ["LOREUN_STORE"] = root
    os.environ["LOREUN_DATA"] = _here["LOREUN_DATA"] or (order.data if Path(order.data).is_dir() else str(_own(data_root)))
    with contextlib.suppress(OSError):
        os.chdir(cwd)
    return _local(order.modules, root).submit(task).result()


def _local(modules: tuple[str, ...], store: str) -> LocalEngine:
    """The engine of this process, whose warm worker has this process's environment: begun anew when that has changed."""
    global _engine
    about = modules, store, os.environ["LOREUN_DATA"], os.getcwd(), *map(os.environ.get, DEVICES)
    if _engine is None or _engine[0] != about:
        if _engine is not None:
            _engine[1].close()
        _engine = about, LocalEngine(1, modules)
    return _engine[1]


@cache
def _own_store() -> Store:
    """The machine's own, in which this process counts as a sweep, so that no other removes what it is writing."""
    return Leases(Store(_own(default_root))).__enter__().store


def _own(root: Callable[[], Path]) -> Path:
    """A folder as this machine's own environment has it."""
    with contextlib.ExitStack() as stack:
        for name, value in _here.items():
            stack.callback(_set, name, os.environ.get(name))
            _set(name, value)
        return root()


def _set(name: str, value: str | None) -> None:
    os.environ.pop(name, None)
    if value is not None:
        os.environ[name] = value


def _version(package: str) -> str:
    try:
        return version(package).partition("+")[0]
    except PackageNotFoundError:
        return "not installed"
