"""Time and work: a clock that waits for the device, and counts of samples passed forward and backward."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch


@dataclass
class Meter:
    """What a run costs: device-synchronised wall seconds, CPU seconds of this thread, samples forward and backward."""

    device: str
    forward_samples: int = 0
    backward_samples: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0

    def __enter__(self) -> Meter:
        _reset_peak(self.device)
        self._synchronise()
        self.wall_s, self.cpu_s = -time.perf_counter(), -time.thread_time()
        return self

    def __exit__(self, *_: object) -> None:
        self._synchronise()
        self.wall_s += time.perf_counter()
        self.cpu_s += time.thread_time()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out of the time what runs inside, such as an evaluation between two epochs."""
        self._synchronise()
        wall, cpu = time.perf_counter(), time.thread_time()
        yield
        self._synchronise()
        self.wall_s -= time.perf_counter() - wall
        self.cpu_s -= time.thread_time() - cpu

    def cost(self) -> dict[str, float]:
        """As in a record: `rte_s`, `cpu_s` (less than `rte_s` means the run waited: a GPU, or a busy machine), counts."""
        return {
            "rte_s": round(self.wall_s, 4), "cpu_s": round(self.cpu_s, 4),
            "forward_samples": self.forward_samples, "backward_samples": self.backward_samples,
            "peak_mem_bytes": _peak(self.device),
        }  # fmt: skip

    def _synchronise(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


def _reset_peak(device: str) -> None:
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass


def _peak(device: str) -> int:
    """Peak bytes since the reset: allocated on the GPU; on the CPU the process's resident set (0 where unknown)."""
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    try:
        with open("/proc/self/status") as file:
            line = next(line for line in file if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        return 0
