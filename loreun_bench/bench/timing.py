"""Time, taken in turn: the sides alternate, so that a machine that slows down slows all of them."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

Call = Callable[[], object]
Tick = Callable[[float], None]  # told the share of the work that is done
BURST_SECONDS = 2e-3  # shorter than this, and the clock and cold caches show
MOST_CALLS = 200


@dataclass
class Side:
    """One thing that is timed: a burst of calls, of which a sample is the mean in seconds; `tidy` runs off the clock."""

    call: Call
    tidy: Call = lambda: None
    burst: int = 1
    samples: list[float] = field(default_factory=list)

    def take(self, device: str) -> None:
        """One sample."""
        self.samples.append(elapsed(self.call, self.burst, device))
        self.tidy()

    def calibrate(self, device: str) -> None:
        """Warm up, then choose the burst."""
        self.call()
        self.burst = max(1, min(MOST_CALLS, int(BURST_SECONDS / max(elapsed(self.call, 1, device), 1e-7))))
        self.tidy()


def elapsed(call: Call, count: int, device: str) -> float:
    """Seconds per call of `count` calls in a row: between events on the GPU, by the clock on the CPU."""
    if device == "cuda":
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(count):
            call()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3 / count
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def interleave(sides: Sequence[Side], device: str, rounds: int, seconds: float, tick: Tick = lambda share: None) -> None:
    """Up to `rounds` samples of each side within about `seconds`, at least two; who begins changes from round to round."""
    start = time.perf_counter()
    collecting = gc.isenabled()
    gc.disable()
    try:
        for turn in range(rounds):
            first = turn % max(len(sides), 1)
            for side in (*sides[first:], *sides[:first]):
                side.take(device)
            spent = time.perf_counter() - start
            tick(min(1.0, max((turn + 1) / rounds, spent / max(seconds, 1e-9))))
            if spent > seconds and turn >= 1:
                break
    finally:
        if collecting:
            gc.enable()


def graphed(call: Call) -> Call:
    """The replay of a CUDA graph of one call."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = call()
    del kept
    replay: Call = graph.replay
    return replay
