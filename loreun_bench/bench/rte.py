"""What the weighting costs per training step: the same model, data and optimiser, only the loss differs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from loreun_bench.bench.cases import ETA_FORGET
from loreun_bench.bench.providers import literal
from loreun_bench.bench.timing import Side, interleave
from loreun_bench.classification.data.images import Augment, Images
from loreun_bench.harness import environment
from loreun_bench.ops import loreun_cross_entropy
from loreun_bench.ops.functional import backend
from loreun_bench.registry import registry
from loreun_bench.training.loop import autocast, automatic, run_steps
from loreun_bench.training.optimiser import make_optimiser

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # logits, labels to learn, true labels
Steps = Callable[[int], None]  # takes that many training steps
IMAGES, CLASSES = 2048, 10
BURST = {"cpu": 1, "cuda": 10}  # steps between two waits for the device


@dataclass(frozen=True)
class Task:
    """A model, the size of its images (H, W, C), its batch size, and how many steps to time on the CPU."""

    model: str
    shape: tuple[int, int, int]
    batch: int
    steps: int

    @property
    def title(self) -> str:
        """As tables name it."""
        return f"{self.model} {self.shape[0]}×{self.shape[1]}, batch {self.batch}"


TASKS = (Task("small-cnn", (28, 28, 1), 256, 60), Task("resnet18", (32, 32, 3), 128, 12))
UNWEIGHTED = "cross entropy"
UNIFORM = "loreun, eta = 0"
WEIGHTED = "loreun, weighted"
LITERAL = "eager weighting as in the paper"


def _operator(eta: float) -> Loss:
    return lambda x, target, clean: loreun_cross_entropy(x, target, clean, eta=eta, direction="forget")


LOSSES: dict[str, Loss] = {
    UNWEIGHTED: lambda x, target, clean: F.cross_entropy(x, target),
    UNIFORM: _operator(0.0),
    WEIGHTED: _operator(ETA_FORGET),
    LITERAL: lambda x, target, clean: literal(x, target, clean, -ETA_FORGET),
}


def pictures(task: Task) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Random images uint8 [n, H, W, C] and labels [n]."""
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, *task.shape), dtype=np.uint8)
    return pixels, np.arange(IMAGES) % CLASSES


def model_of(task: Task) -> nn.Module:
    """A fresh model in training mode, its weights always the same."""
    torch.manual_seed(0)
    model: nn.Module = registry("models").get(task.model).item(task.shape[2], CLASSES, task.shape[:2])
    return model.train()


def harness_steps(task: Task, device: str, loss: Loss) -> Steps:
    """Forgetting steps of the harness's own loop: its images, its augmentation, its optimiser, and `loss`."""
    pixels, labels = (torch.from_numpy(array).to(device) for array in pictures(task))
    images = Images(pixels, *(torch.full((task.shape[2],), value, device=device) for value in (0.5, 0.25)))
    targets = (labels + 1) % CLASSES
    model = model_of(task).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = make_optimiser(model.parameters(), "sgd", 0.01, 0.9, 5e-4)
    order, augment, precision = torch.Generator(device).manual_seed(0), Augment(4, True), automatic(device)

    def objective(chosen: Tensor) -> Tensor:
        x = images.batch(chosen, augment, order)
        with autocast(device, precision):
            logits = model(x)
        return loss(logits, targets[chosen], labels[chosen])

    def steps(count: int) -> None:
        batches = [torch.randperm(IMAGES, generator=order, device=device)[: task.batch] for _ in range(count)]
        run_steps(model, batches, objective, optimiser)

    return steps


def run(
    tasks: Sequence[Task], device: str, threads: int, steps: int | None, listen: Callable[[str, float], None]
) -> dict[str, Any]:
    """Measure all tasks: {"environment", "backend", "threads", "rows"}. steps: in place of each task's own number."""
    torch.set_num_threads(threads)
    rows: list[dict[str, Any]] = []
    for number, task in enumerate(tasks):

        def tick(share: float, task: Task = task, number: int = number) -> None:
            listen(task.title, (number + share) / len(tasks))

        tick(0.0)
        sides = {name: Side(partial(harness_steps(task, device, loss), BURST[device])) for name, loss in LOSSES.items()}
        for side in sides.values():
            side.call()
            side.call()
        interleave(list(sides.values()), device, steps or task.steps, math.inf, tick)
        rows += _rows(task, {name: [taken / BURST[device] for taken in side.samples] for name, side in sides.items()})
    about = {"environment": environment.describe(device), "backend": backend(device), "threads": threads}
    return about | {"precision": automatic(device), "burst": BURST[device], "rows": rows}


def _rows(task: Task, times: Mapping[str, list[float]]) -> list[dict[str, Any]]:
    base = times[UNWEIGHTED]
    rows = []
    for name, taken in times.items():
        rows.append({
            "task": task.title, "loss": name, "samples": len(taken),
            "ms_min": 1e3 * min(taken), "ms_median": 1e3 * statistics.median(taken),
            "over_unweighted_min": min(taken) / min(base),
            "over_unweighted_median": statistics.median(taken) / statistics.median(base),
            "extra_us_median": 1e6 * statistics.median(t - b for t, b in zip(taken, base, strict=True)),
            "images_per_s": task.batch / statistics.median(taken),
        })  # fmt: skip
    return rows


FOOTER = """\
Sides alternate step by step in one process; min and median are over the samples. ×: over plain cross entropy in the
same run, of the minima and of the medians; extra: the median of the differences to the step taken beside it.
A step is image lookup, crop and flip, forward, loss, backward, SGD, and the check that all is finite."""


def render(result: dict[str, Any], style: str) -> str:
    """The rows as one table, and how to read it. style: text or md."""
    from tabulate import tabulate

    lines = [
        [row["task"], row["loss"], f"{row['ms_min']:.3f}", f"{row['ms_median']:.3f}", f"{row['over_unweighted_min']:.3f}",
         f"{row['over_unweighted_median']:.3f}", f"{row['extra_us_median']:+.0f}", f"{row['images_per_s']:.0f}"]
        for row in result["rows"]
    ]  # fmt: skip
    headings = ["task", "loss", "ms/step min", "median", "× min", "× median", "extra µs", "images/s"]
    align = ("left", "left", *["right"] * 6)
    layout = "github" if style == "md" else "simple"
    return tabulate(lines, headings, layout, disable_numparse=True, colalign=align) + "\n\n" + FOOTER + "\n"
