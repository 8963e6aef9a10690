"""How fast is a training step? Ours against a plain PyTorch loop, and with weighting against without, in one process.

    python benchmarks/loop.py [--quick] [--out FILE.json]

The plain loop is what a newcomer writes: a Dataset of PIL pictures, torchvision's transforms, a DataLoader, the same
model, batch size, loss and optimiser. The sides alternate step by step on one thread; a figure is the minimum and the
median over the steps, a ratio is of the two medians (and of the two minima) of the same run.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms

from loreun_bench.bench.rte import (
    LOSSES,
    TASKS,
    UNIFORM,
    WEIGHTED,
    Steps,
    Task,
    alternate,
    harness_steps,
    model_of,
    pictures,
)
from loreun_bench.harness import environment


def plain_steps(task: Task) -> Steps:
    """Steps of the plain loop."""
    shape, (pixels, labels) = task.shape, pictures(task)
    changes = [transforms.RandomCrop(shape[0], padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    transform = transforms.Compose([*changes, transforms.Normalize([0.5] * shape[2], [0.25] * shape[2])])
    images = [Image.fromarray(p.squeeze()) for p in pixels]

    class Pictures(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, i: int) -> tuple[Any, int]:
            return transform(images[i]), int(labels[i])

    def forever() -> Iterator[Any]:
        while True:
            yield from DataLoader(Pictures(), batch_size=task.batch, shuffle=True, drop_last=True)

    model, batches = model_of(task), forever()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    criterion = torch.nn.CrossEntropyLoss()

    def steps(count: int) -> None:
        for _ in range(count):
            x, y = next(batches)
            optimiser.zero_grad()
            criterion(model(x), y).backward()
            optimiser.step()

    return steps


def measure(task: Task, quick: bool) -> dict[str, Any]:
    """All figures of one task."""
    sides = {
        "plain": plain_steps(task),
        "ours": harness_steps(task, "cpu", LOSSES[UNIFORM]),
        "ours, weighted": harness_steps(task, "cpu", LOSSES[WEIGHTED]),
    }
    times = alternate(sides, 2 if quick else task.steps, "cpu")
    low = {side: min(t) for side, t in times.items()}
    mid = {side: statistics.median(t) for side, t in times.items()}
    return {
        "case": task.title,
        "steps": len(times["ours"]),
        "milliseconds_min": {side: round(1e3 * t, 3) for side, t in low.items()},
        "milliseconds_median": {side: round(1e3 * t, 3) for side, t in mid.items()},
        "images_per_second": {side: round(task.batch / t, 1) for side, t in mid.items()},
        "ours_over_plain": {"median": round(mid["plain"] / mid["ours"], 3), "min": round(low["plain"] / low["ours"], 3)},
        "weighted_over_unweighted": {
            "median": round(mid["ours, weighted"] / mid["ours"], 3),
            "min": round(low["ours, weighted"] / low["ours"], 3),
        },
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two steps a side: to see that it runs")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    result = {"environment": environment.describe("cpu"), "threads": 1, "cases": []}
    for task in TASKS:
        found = measure(task, options.quick)
        result["cases"].append(found)
        print(json.dumps(found, indent=1, ensure_ascii=False))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
