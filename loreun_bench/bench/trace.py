"""What one call allocates and launches, counted by torch's profiler."""

from __future__ import annotations

import json
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from loreun_bench.bench.timing import Call

LAUNCHES = ("kernel", "gpu_memcpy", "gpu_memset")


def launches(call: Call) -> int:
    """Kernels, copies and fills that one call puts on the GPU."""
    _wake()
    return sum(event.get("cat") in LAUNCHES for event in _events(call, [ProfilerActivity.CPU, ProfilerActivity.CUDA]))


def peak_bytes(call: Call, device: str) -> int:
    """The most memory that one call holds at a time beyond what was there, its results included."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    changes = [event for event in _events(call, [ProfilerActivity.CPU]) if event.get("name") == "[memory]"]
    held = most = 0
    for event in sorted(changes, key=lambda event: float(event["ts"])):
        held += int(event["args"]["Bytes"])
        most = max(most, held)
    return most


@cache
def _wake() -> None:
    """The first trace of a process may miss what ran while the driver's profiler was starting."""
    _events(lambda: torch.ones(1, device="cuda"), [ProfilerActivity.CPU, ProfilerActivity.CUDA])


def _events(call: Call, activities: list[ProfilerActivity]) -> list[dict[str, Any]]:
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or it writes to stderr
    on_gpu = ProfilerActivity.CUDA in activities
    with profile(activities=activities, profile_memory=not on_gpu) as profiler:
        result = call()
        if on_gpu:
            torch.cuda.synchronize()
    del result
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        found: list[dict[str, Any]] = json.loads(path.read_text())["traceEvents"]
    return found
