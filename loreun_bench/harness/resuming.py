"""Checkpoints of a stage under way, in a folder of its own in the store: whoever runs it after a kill goes on from there.

The folder's name is the stage's key, which stands for configuration, inputs and code, but for what the user's code reads
while it runs: the manifest names that. A checkpoint is a payload and a manifest, which is written last; a stage may have
several loops, and each has its own.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import shutil
import time
import traceback
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from loreun_bench.errors import Diverged, UserError
from loreun_bench.harness import environment
from loreun_bench.harness.files import sha256_file, sync, write_atomic

if TYPE_CHECKING:
    from loreun_bench.harness.watch import Watch

VARIABLE, MINUTES = "LOREUN_CHECKPOINT_MINUTES", 5.0
KEPT = 30 * 86400  # seconds after which a checkpoint that nobody went on from is removed

T = TypeVar("T")


class Stale(Exception):
    """The checkpoint does not fit the run that took it up: the stage has to begin anew."""


@dataclass
class _Running:
    """The stage under way: its folder, what watches the user's code in it, seconds between two checkpoints (0: never), when
    the next is due, how many loops have begun, and how often the stage was resumed, this time included."""

    folder: Path
    device: str
    watch: Watch | None
    every: float
    due: float = math.inf
    loops: int = 0
    resumed: int = 0

    @cached_property
    def made_with(self) -> dict[str, Any]:
        """What the last bits of a result depend on beside code and versions."""
        import torch

        from loreun_bench.ops.functional import backend

        about = environment.describe(self.device)
        return {
            "device_name": about["device_name"], "torch": about["torch"], "threads": torch.get_num_threads(),
            "capability": torch.backends.cpu.get_cpu_capability(), "machine": platform.machine(),
            "backend": backend(self.device),
        }  # fmt: skip


_running: _Running | None = None


def run(folder: Path, device: str, anew: bool, function: Callable[[], T], watch: Watch | None = None) -> T:
    """What the stage `function` returns. Its loops keep checkpoints in `folder` and go on from those they find there; anew:
    from none. watch: of the user's code that it runs. UserError if the variable that says how often is no number of minutes.
    """
    if anew:
        remove(folder)
    with contextlib.suppress(Stale):
        return _run(folder, device, function, watch)
    remove(folder)
    return _run(folder, device, function, watch)


def _run(folder: Path, device: str, function: Callable[[], T], watch: Watch | None) -> T:
    global _running
    every = 60 * _minutes()
    due = time.monotonic() + every if every else math.inf
    _running = _Running(folder, device, watch, every, due)
    try:
        return function()
    except Diverged:  # it would again
        remove(folder)
        raise
    finally:
        _running = None


def remove(folder: Path) -> None:
    """Nothing is to be gone on from: the artifact is there, or is to be made anew."""
    shutil.rmtree(folder, ignore_errors=True)


def next_loop() -> int:
    """The number of a loop that begins, from 1; 0 where no checkpoints are kept."""
    if _running is None or not _running.every:
        return 0
    _running.loops += 1
    return _running.loops


def due() -> bool:
    """Whether it is time for the next checkpoint. Cheap enough for every step; never outside a stage."""
    return _running is not None and time.monotonic() >= _running.due


def save(loop: int, state: dict[str, Any]) -> None:
    """Keep the state of a loop: tensors, numbers, text, and dictionaries, lists and tuples of these. Where that fails, as on
    a full disk, the checkpoint before stays, and the stage goes on."""
    import torch

    assert _running is not None
    folder = _running.folder
    payload = folder / f"{loop}-{uuid.uuid4().hex[:8]}.pt"
    try:
        if not folder.exists():
            _remove_old(folder.parent)
            folder.mkdir(parents=True, exist_ok=True)
        torch.save(state, payload)
        with open(payload, "rb") as file:
            sync(file.fileno())
        about = {"file": payload.name, "sha256": sha256_file(payload), "versions": environment.versions()}
        about["used"] = {} if _running.watch is None else _running.watch.so_far()
        write_atomic(folder / f"{loop}.json", json.dumps(about | _running.made_with))
        _remove_others(payload, loop)
    except Exception:  # whatever it is, no reason to lose the stage
        if os.environ.get("LOREUN_DEBUG"):
            traceback.print_exc()
        with contextlib.suppress(OSError):
            payload.unlink(missing_ok=True)
    _running.due = time.monotonic() + _running.every


def load(loop: int) -> dict[str, Any] | None:
    """The state that a loop was in at its last checkpoint, on the CPU; None if there is none, or it is damaged, or was made
    with another torch, processor or number of threads, by which results differ in their last bits, or if a file of the
    user's, or what else their code read, is another now."""
    import torch

    assert _running is not None
    manifest = _running.folder / f"{loop}.json"
    try:
        about = json.loads(manifest.read_text())
        payload = _running.folder / about["file"]
        same = about.items() >= _running.made_with.items() and not environment.others(about["versions"])
        same = same and (_running.watch is None or _running.watch.goes_on(about["used"]))
        if not same or sha256_file(payload) != about["sha256"]:
            raise ValueError("not to be gone on from")
        found: dict[str, Any] = torch.load(payload, map_location="cpu", weights_only=True)
    except Exception:  # a file can be broken in any way
        with contextlib.suppress(OSError):
            manifest.unlink(missing_ok=True)
        return None
    return found


def resumed() -> int:
    """Note that the stage goes on from a checkpoint; how often it has done so, runs that were killed since included."""
    assert _running is not None
    if not _running.resumed:
        count = _running.folder / "resumed"
        with contextlib.suppress(OSError, ValueError):
            _running.resumed = int(count.read_text())
        _running.resumed += 1
        with contextlib.suppress(OSError):
            write_atomic(count, str(_running.resumed))
    return _running.resumed


def _minutes() -> float:
    given = os.environ.get(VARIABLE) or str(MINUTES)
    try:
        found = float(given)
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        raise UserError(f"{VARIABLE}={given}: give the minutes between two checkpoints, 0 for none")
    return found


def _remove_others(payload: Path, loop: int) -> None:
    """Earlier checkpoints of a loop, and what a kill has left of one."""
    for path in payload.parent.glob(f"{loop}-*.pt"):
        if path != payload:
            with contextlib.suppress(OSError):
                path.unlink()


def _remove_old(root: Path) -> None:
    """Those of stages that nobody runs any more, as their code or configuration is another now."""
    for folder in root.glob("*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > KEPT:
                remove(folder)
