"""Time and work: a clock that waits for the device, and counts of samples passed forward and backward."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch


@dataclass
class Meter:
    """What a run costs: device-synchronised wall seconds, CPU seconds of this thread, samples forward and backward."""

    device: str
    forward_samples: int = 0
    backward_samples: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    resumed: int = 0
    _earlier: tuple[float, float, int] = (0.0, 0.0, 0)  # wall and CPU seconds, and peak, of runs that were killed

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
        """As in a record: `rte_s`, `cpu_s` (less than `rte_s` means the run waited: a GPU, or a busy machine), counts; and
        `resumed`, how often the run went on after a kill, if it did. Seconds are those that were spent, but for what ran
        between a checkpoint and the kill, which nobody knows; samples count once, as in a run that is not killed."""
        wall, cpu, peak = self._earlier
        return {
            "rte_s": round(wall + self.wall_s, 4), "cpu_s": round(cpu + self.cpu_s, 4),
            "forward_samples": self.forward_samples, "backward_samples": self.backward_samples,
            "peak_mem_bytes": max(peak, _peak(self.device)),
        } | ({"resumed": self.resumed} if self.resumed else {})  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """What it has counted so far, with the clock running."""
        wall, cpu, peak = self._earlier
        spent = (wall + self.wall_s + time.perf_counter(), cpu + self.cpu_s + time.thread_time())
        counts = {"forward_samples": self.forward_samples, "backward_samples": self.backward_samples}
        return counts | {"earlier": [*spent, max(peak, _peak(self.device))]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting: what this process has spent until now, making ready once more, adds to the seconds alone."""
        self.forward_samples, self.backward_samples = state_dict["forward_samples"], state_dict["backward_samples"]
        wall, cpu, peak = state_dict["earlier"]
        self._earlier = wall, cpu, peak

    def go_on(self, resumed: int) -> None:
        """The run went on from a checkpoint, for the `resumed`th time; the memory that reading it took does not count."""
        self.resumed = resumed
        _reset_peak(self.device)

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
