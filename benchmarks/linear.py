"""What does a linear layer with the weighted cross entropy cost, forward and backward, in time and memory, on a CPU?

    python benchmarks/linear.py [--quick] [--out FILE.json]

hidden [1024, 1024], weight [V, 1024]. The sides: logits whole; torch's chunked linear_cross_entropy, each row's loss by
itself, and the weights in PyTorch; the operator, at several chunk sizes. Liger's fused linear cross entropy is written
in Triton, which has no CPU backend: not here. One thread; the sides alternate step by step. Memory is what the peak
of the resident size rises above that before the step (Linux), gradients included: nothing that a library allocates can
hide from it. Errors are those of the gradients against float64, relative, in the Euclidean norm.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor
from torch.nn import functional as F

from loreun_bench.harness import environment
from loreun_bench.ops import loreun_cross_entropy, loreun_linear_cross_entropy

ETA = 0.1
CHUNKS = (20, 22, 24, 26)  # binary logarithms of the elements
ERRORS = "error_grad_hidden", "error_grad_weight"
Loss = Callable[[Tensor, Tensor, Tensor, "Tensor | None"], Tensor]


@dataclass(frozen=True)
class Case:
    """other: the weights come from the loss of another label."""

    vocabulary: int
    dtype: torch.dtype
    other: bool = False
    rows: int = 1024
    width: int = 1024

    @property
    def title(self) -> str:
        return f"V {self.vocabulary}, {str(self.dtype)[6:]}, {'two labels' if self.other else 'one label'}"


CASES = [Case(v, dtype) for v in (32000, 128256) for dtype in (torch.float32, torch.bfloat16)]
CASES.insert(1, Case(32000, torch.float32, other=True))


def whole(hidden: Tensor, weight: Tensor, target: Tensor, score: Tensor | None) -> Any:
    """All logits, and the operator on them."""
    return loreun_cross_entropy(F.linear(hidden, weight), target, score, eta=ETA, direction="forget")


def in_place(hidden: Tensor, weight: Tensor, target: Tensor, score: Tensor | None) -> Any:
    """All logits, and their gradient written over them."""
    logits = F.linear(hidden, weight)
    return loreun_cross_entropy(logits, target, score, eta=ETA, direction="forget", inplace_backward=True)


def composed(options: Any) -> Loss:
    """On torch's chunks; another label's loss is another pass."""

    def run(hidden: Tensor, weight: Tensor, target: Tensor, score: Tensor | None) -> Tensor:
        loss = F.linear_cross_entropy(hidden, weight, target, reduction="none", options=options)
        deciding = loss.detach()
        if score is not None:
            with torch.no_grad():
                deciding = F.linear_cross_entropy(hidden, weight, score, reduction="none", options=options)
        return (torch.softmax(-ETA * deciding.float(), 0) * loss).sum()

    return run


def ours(chunk_size: int | None) -> Loss:
    def run(hidden: Tensor, weight: Tensor, target: Tensor, score: Tensor | None) -> Any:
        return loreun_linear_cross_entropy(hidden, weight, target, score, eta=ETA, direction="forget", chunk_size=chunk_size)

    return run


def sides() -> dict[str, Loss]:
    """Who takes part; torch's chunked form is there from 2.13 on."""
    found: dict[str, Loss] = {"logits whole": whole, "logits whole, in place": in_place}
    if options := getattr(torch.nn, "LinearCrossEntropyOptions", None):
        found["torch's chunks, as it chooses"] = composed(options())
        found["torch's chunks, 256 rows each"] = composed(options(batch_chunk_size=256))
    return found | {"ours": ours(None)} | {f"ours, 2^{n} logits": ours(1 << n) for n in CHUNKS}


def inputs(case: Case) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """hidden and weight such that logits have a standard deviation of 3."""
    rng = torch.Generator().manual_seed(0)
    hidden = torch.randn(case.rows, case.width, generator=rng)
    weight = torch.randn(case.vocabulary, case.width, generator=rng).mul_(3 / case.width**0.5)
    target, score = torch.randint(case.vocabulary, (2, case.rows), generator=rng)
    leaves = (x.to(case.dtype).requires_grad_() for x in (hidden, weight))
    return *leaves, target, score if case.other else None  # type: ignore[return-value]


def step(loss: Loss, tensors: Any) -> list[Tensor]:
    """The gradients of hidden and weight."""
    return list(torch.autograd.grad(loss(*tensors), tensors[:2]))


def exact(tensors: Any) -> list[Tensor]:
    """The gradients in float64 with torch's own functions."""
    hidden, weight = (x.detach().double().requires_grad_() for x in tensors[:2])
    logits = F.linear(hidden, weight)
    loss = F.cross_entropy(logits, tensors[2], reduction="none")
    deciding = loss if tensors[3] is None else F.cross_entropy(logits, tensors[3], reduction="none")
    return list(torch.autograd.grad((torch.softmax(-ETA * deciding.detach(), 0) * loss).sum(), (hidden, weight)))


def with_memory(run: Callable[[], list[Tensor]]) -> tuple[list[Tensor], int]:
    """What it returns, and the MiB by which the peak of the resident size rises above what it was."""

    def resident(name: str) -> int:
        return int(Path("/proc/self/status").read_text().split(name + ":")[1].split()[0])

    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # else the allocator has memory left that nobody sees it take
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = resident("VmRSS")
    found = run()
    return found, round((resident("VmHWM") - before) / 1024)


def measure(case: Case, steps: int) -> list[dict[str, Any]]:
    """A row a side."""
    tensors, found = inputs(case), sides()
    wanted = exact(tensors)
    rows = {}
    for side, loss in found.items():  # a first step before the clock runs
        grads, peak = with_memory(lambda loss=loss: step(loss, tensors))  # type: ignore[misc]
        errors = (float((a.double() - b).norm() / b.norm()) for a, b in zip(grads, wanted, strict=True))
        rows[side] = {"side": side} | dict(zip(ERRORS, (float(f"{error:.2e}") for error in errors), strict=True))
        rows[side]["peak_mib"] = peak
    times: dict[str, list[float]] = {side: [] for side in found}
    for _ in range(steps):
        for side, loss in found.items():
            start = time.perf_counter()
            step(loss, tensors)
            times[side].append(time.perf_counter() - start)
    for side, row in rows.items():
        row["seconds_min"], row["seconds_median"] = round(min(times[side]), 3), round(statistics.median(times[side]), 3)
    return list(rows.values())


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small vocabulary, one step: to see that it runs")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    result = {"environment": environment.describe("cpu"), "threads": 1, "eta": ETA, "cases": []}
    for case in [Case(1000, torch.float32, rows=64)] if options.quick else CASES:
        rows = measure(case, 1 if options.quick else options.steps)
        result["cases"].append({"case": case.title, "rows": case.rows, "width": case.width, "sides": rows})
        print(f"\n{case.title}\n{tabulate(rows, headers='keys')}", flush=True)
        if options.out:
            options.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
