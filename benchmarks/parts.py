"""Where the time of a training step goes, in percent: convolutions, the rest of the network, and what the harness does.

    python benchmarks/parts.py [--steps 6] [--threads 1] [--out FILE.json]

Each network is trained by `fit`, as a sweep trains it, on random pictures of CIFAR-10's size, under torch's profiler. On a
CPU, whose calls end when their work is done. `loop` is what is left: Python, the schedule, the guard.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from recipe import CLASSES, RECIPE, begun
from tabulate import tabulate
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from loreun_bench.classification.config import Recipe
from loreun_bench.classification.data.images import Images
from loreun_bench.classification.unlearning import fitting
from loreun_bench.classification.unlearning.method import ImageSet
from loreun_bench.harness import environment
from loreun_bench.training.loop import automatic

PRODUCTS = ("convolution", "addmm", "aten::mm")
USUAL: dict[str, Any] = {"lr": 0.1, "batch_size": 256, "crop": 4, "flip": True}
TASKS: dict[str, dict[str, Any]] = {"airbench": RECIPE, "resnet18": USUAL, "small-cnn": USUAL}  # how each is trained


class Seen(nn.Module):
    """A network whose forward pass has a name in the profile."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> Any:
        """As the network's."""
        with record_function("part: forward"):
            return self.network(x)


@contextmanager
def named(owner: Any, name: str, part: str) -> Iterator[None]:
    """Inside, a function of the harness has a name in the profile."""
    real = getattr(owner, name)

    def call(*words: Any, **more: Any) -> Any:
        with record_function(f"part: {part}"):
            return real(*words, **more)

    with mock.patch.object(owner, name, call):
        yield


def parts(name: str, steps: int, precision: str) -> dict[str, float]:
    """Milliseconds a step, by part."""
    recipe = Recipe(epochs=1, **TASKS[name])
    model, context = begun(name, {}, recipe, 0, precision)
    count, half = recipe.batch_size * steps, torch.full((3,), 0.5)
    images = Images(torch.randint(256, (count, 32, 32, 3), dtype=torch.uint8), half, half)
    samples = ImageSet(images, torch.arange(count), torch.randint(CLASSES, (count,)))
    fitting.fit(model, samples, None, replace(context, limit_steps=1))
    with ExitStack() as stack:
        stack.enter_context(named(Images, "batch", "augmentation"))
        stack.enter_context(named(fitting, "loreun_cross_entropy", "loss"))
        stack.enter_context(named(torch.Tensor, "backward", "backward"))
        stack.enter_context(named(fitting, "run_steps", "all"))
        profiler = stack.enter_context(profile(activities=[ProfilerActivity.CPU]))
        fitting.fit(Seen(model), samples, None, context)
    rows = profiler.key_averages()
    spans = {row.key.removeprefix("part: "): row.cpu_time_total for row in rows if row.key.startswith("part: ")}
    optimiser = sum(row.cpu_time_total for row in rows if row.key.startswith("Optimizer.step#"))
    products = sum(row.self_cpu_time_total for row in rows if any(word in row.key for word in PRODUCTS))
    network = spans["forward"] + spans["backward"]
    ours = {"augmentation": spans["augmentation"], "loss": spans["loss"], "optimiser": optimiser}
    found = {"products": products, "rest of network": network - products, **ours}
    found["loop"] = spans["all"] - network - sum(ours.values())
    return {part: round(each / 1000 / steps, 3) for part, each in found.items()}


def main() -> None:
    """Print the table, and write what it is of."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    precision = automatic("cpu")
    found = {name: parts(name, asked.steps, precision) for name in TASKS}
    shown = [
        [name, f"{sum(of.values()):.0f} ms", *(f"{100 * each / sum(of.values()):.1f}" for each in of.values())]
        for name, of in found.items()
    ]
    print(tabulate(shown, ["network", "step", *next(iter(found.values()))], disable_numparse=True))
    if asked.out:
        about = {"precision": precision, "threads": asked.threads, "device_name": environment.describe("cpu")["device_name"]}
        asked.out.write_text(json.dumps(about | environment.commit() | {"ms": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
