"""Stages for the tests of engines and scheduler; importable by a spawned worker, which gets this process's sys.path."""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import os
import resource
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from loreun_bench.errors import Diverged
from loreun_bench.harness.progress import report
from loreun_bench.harness.stage import Output
from loreun_bench.harness.store import Artifact, Corrupt, default_root

Config = Mapping[str, Any]
Inputs = Mapping[str, Artifact]


def ok(config: Config, inputs: Inputs, device: str) -> Output:
    """Adds up its inputs and its own number; writes a line to `log` if told to, so that runs can be counted."""
    time.sleep(config.get("seconds", 0.0))
    if "log" in config:
        with open(config["log"], "a") as file:
            file.write(config.get("name", "ok") + "\n")
    total = config.get("add", 0.0) + sum(float(artifact.tensors()["total"]) for artifact in inputs.values())
    values = {"metrics": {"total": total, **config.get("metrics", {})}, "pid": os.getpid()}
    return Output({"total": torch.tensor(total)}, values if config.get("pid") else {"metrics": values["metrics"]})


def not_a_number(config: Config, inputs: Inputs, device: str) -> Output:
    """A metric that is NaN, as with an empty set."""
    return Output(values={"metrics": {"total": float("nan")}})


def threads(config: Config, inputs: Inputs, device: str) -> Output:
    """How many threads torch computes with."""
    return Output(values={"threads": torch.get_num_threads()})


def takes_memory_again(config: Config, inputs: Inputs, device: str) -> Output:
    """How many pages of memory are new to the process when it takes 64 MiB, as it did eight times before."""
    for _ in range(9):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        np.ones(1 << 23)  # torch would align it, so that what was freed may not do
    return Output({}, {"pages": resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before})


def reports(config: Config, inputs: Inputs, device: str) -> Output:
    """Is a quarter done until the file `heard` is there."""
    report(0.25)
    for _ in range(1200):
        if Path(config["heard"]).exists():
            return ok(config, inputs, device)
        time.sleep(0.1)
    raise ValueError("nobody heard")


def loses(config: Config, inputs: Inputs, device: str) -> Output:
    """Finds its input gone so many times, or once, when another such stage has begun, too; or all that was made."""
    own, other = Path(config["own"]), Path(config["other"])
    seen = own.stat().st_size if own.exists() else 0
    if seen == config.get("times", 1):
        return ok(config, inputs, device)
    own.write_text("x" * (seen + 1))
    for _ in range(600):
        if other.exists():
            break
        time.sleep(0.1)
    folder = inputs["model"].folder
    shutil.rmtree(folder.parents[1] if config.get("all") else folder, ignore_errors=True)
    raise Corrupt("its input is gone")


def opens(config: Config, inputs: Inputs, device: str) -> Output:
    """Opens a file that is not there."""
    Path(config["path"]).read_bytes()
    return Output()


def fails(config: Config, inputs: Inputs, device: str) -> Output:
    """A bug."""
    raise ValueError("a\n  bug")


def fails_without(config: Config, inputs: Inputs, device: str) -> Output:
    """Fails until the file `needs` exists, with the error that `error` names."""
    if Path(config["needs"]).exists():
        return ok(config, inputs, device)
    if config["error"] == "disk_full":
        raise OSError(errno.ENOSPC, "No space left on device")
    raise ValueError("not yet")


def out_of_memory(config: Config, inputs: Inputs, device: str) -> Output:
    """What Python raises."""
    raise MemoryError


def out_of_memory_in_torch(config: Config, inputs: Inputs, device: str) -> Output:
    """What torch raises on a CPU: no machine has four petabytes."""
    return Output({"a": torch.empty(10**15)})


def diverges(config: Config, inputs: Inputs, device: str) -> Output:
    """What the training loop raises."""
    raise Diverged("loss became NaN at step 3")


def fills_the_disk(config: Config, inputs: Inputs, device: str) -> Output:
    """What the system raises."""
    raise OSError(errno.ENOSPC, "No space left on device")


def dies(config: Config, inputs: Inputs, device: str) -> Output:
    """What the system's out-of-memory killer does."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def sleeps(config: Config, inputs: Inputs, device: str) -> Output:
    """Never ends."""
    while True:
        time.sleep(60)


def kills_its_worker(config: Config, inputs: Inputs, device: str) -> Output:
    """Ends the process that has started this one: the first time, or always."""
    first = not Path(config["own"]).exists()
    with open(config["own"], "a") as file:
        file.write("run\n")
    if first or config.get("always"):
        parent = multiprocessing.parent_process()
        assert parent is not None
        os.kill(int(parent.pid or 0), signal.SIGKILL)
        time.sleep(60)
    return ok(config, inputs, device)


def devices(config: Config, inputs: Inputs, device: str) -> Output:
    """Which GPUs it may use."""
    return Output(values={"devices": os.environ.get("CUDA_VISIBLE_DEVICES")})


def draws(config: Config, inputs: Inputs, device: str) -> Output:
    """Leaves a file beside the artifacts, as pictures are, with the numbers of its inputs."""
    content = b" ".join(artifact.folder.name.encode() for artifact in inputs.values()) or b"nothing"
    (folder := default_root() / "pictures" / "drawn").mkdir(parents=True, exist_ok=True)
    (folder / "one.png").write_bytes(content)
    return Output(values={"folder": "drawn", "files": {"one.png": hashlib.sha256(content).hexdigest()}})


def looks(config: Config, inputs: Inputs, device: str) -> Output:
    """Reads what `draws` has left."""
    return Output(values={"seen": (default_root() / "pictures" / "drawn" / "one.png").read_text()})
