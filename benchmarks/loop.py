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
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms

from loreun_bench.classification.config import Recipe
from loreun_bench.classification.images import Augment, Images
from loreun_bench.classification.method import Context, ImageSet
from loreun_bench.classification.protocols import PROTOCOLS
from loreun_bench.classification.stages import build_model
from loreun_bench.classification.unlearning import PhaseRun
from loreun_bench.harness import environment
from loreun_bench.training.clock import Meter
from loreun_bench.training.loop import run_steps
from loreun_bench.training.optimiser import make_optimiser
from loreun_bench.weightings import Phase

CASES = {
    "small-cnn 28×28, batch 256": ("small-cnn", (28, 28, 1), 256, 60),
    "resnet18 32×32, batch 128": ("resnet18", (32, 32, 3), 128, 6),
}
N = 2048


def model_of(name: str, shape: tuple[int, int, int]) -> torch.nn.Module:
    """A fresh model, its weights always the same."""
    torch.manual_seed(0)
    return build_model(name, {}, shape[2], 10, shape[:2]).train()


def plain_step(
    name: str, shape: tuple[int, int, int], batch: int, pixels: np.ndarray, labels: np.ndarray
) -> Callable[[], None]:
    """One step of the plain loop."""
    changes = [transforms.RandomCrop(shape[0], padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    transform = transforms.Compose([*changes, transforms.Normalize([0.5] * shape[2], [0.25] * shape[2])])
    pictures = [Image.fromarray(p.squeeze()) for p in pixels]

    class Pictures(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return len(pictures)

        def __getitem__(self, i: int) -> tuple[Any, int]:
            return transform(pictures[i]), int(labels[i])

    def forever() -> Iterator[Any]:
        while True:
            yield from DataLoader(Pictures(), batch_size=batch, shuffle=True, drop_last=True)

    model, batches = model_of(name, shape), forever()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    criterion = torch.nn.CrossEntropyLoss()

    def step() -> None:
        x, y = next(batches)
        optimiser.zero_grad()
        criterion(model(x), y).backward()
        optimiser.step()

    return step


def our_step(
    name: str, shape: tuple[int, int, int], batch: int, pixels: np.ndarray, labels: np.ndarray, weight: Phase | None
) -> Callable[[], None]:
    """One step of ours, through the operator: with `weight`, or uniform."""
    statistics_ = torch.full((shape[2],), 0.5), torch.full((shape[2],), 0.25)
    images = Images(torch.from_numpy(pixels), *statistics_)
    samples = ImageSet(images, torch.arange(N), torch.from_numpy(labels))
    context = Context("cpu", "fp32", PROTOCOLS["corrected"], Recipe(), {}, 0, Meter("cpu"))
    targets = (samples.labels + 1) % 10
    run = PhaseRun("forget", samples, targets, 1.0, weight, None, context, Augment(4, True))
    model = model_of(name, shape).to(memory_format=torch.channels_last)
    optimiser = make_optimiser(model.parameters(), "sgd", 0.01, 0.9, 5e-4)
    order = torch.Generator().manual_seed(0)

    def step() -> None:
        positions = torch.randperm(N, generator=order)[:batch]
        run_steps(model, [positions], lambda chosen: run.loss(model, chosen), optimiser)

    return step


def alternate(sides: dict[str, Callable[[], None]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each side's steps, taken in turn, after two steps of warm-up."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats + 2):
        for name, step in sides.items():
            start = time.perf_counter()
            step()
            if turn >= 2:
                times[name].append(time.perf_counter() - start)
    return times


def measure(case: str, quick: bool) -> dict[str, Any]:
    """All figures of one case."""
    name, shape, batch, repeats = CASES[case]
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, (N, *shape)).astype(np.uint8), np.arange(N) % 10
    sides = {
        "plain": plain_step(name, shape, batch, *data),
        "ours": our_step(name, shape, batch, *data, None),
        "ours, weighted": our_step(name, shape, batch, *data, Phase("forget", 0.1)),
    }
    times = alternate(sides, 2 if quick else repeats)
    low = {side: min(t) for side, t in times.items()}
    mid = {side: statistics.median(t) for side, t in times.items()}
    return {
        "case": case,
        "steps": len(times["ours"]),
        "milliseconds_min": {side: round(1e3 * t, 3) for side, t in low.items()},
        "milliseconds_median": {side: round(1e3 * t, 3) for side, t in mid.items()},
        "images_per_second": {side: round(batch / t, 1) for side, t in mid.items()},
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
    for case in CASES:
        found = measure(case, options.quick)
        result["cases"].append(found)
        print(json.dumps(found, indent=1, ensure_ascii=False))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
