"""A training step: the harness's loop under every loss of `bench rte`, and the plain PyTorch loop a newcomer writes.

The plain loop has a Dataset of PIL pictures, torchvision's transforms, a DataLoader, and the same model, batch size,
loss and optimiser. Ratios near one are `bench rte`'s, whose sides take turns.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms

from loreun_bench.bench.rte import BURST, LOSSES, TASKS, Steps, Task, harness_steps, model_of, pictures

PLAIN = "plain PyTorch loop"
pytestmark = pytest.mark.benchmark(max_time=3.0)


def pytest_generate_tests(metafunc):
    tasks = TASKS[:1] if metafunc.config.option.quick else TASKS
    rows = [pytest.param(task, side, id=f"{task.title}, {side}") for task in tasks for side in (PLAIN, *LOSSES)]
    metafunc.parametrize(("task", "side"), rows)


def test_step(row, device, task, side):
    plain = side == PLAIN
    steps = plain_steps(task, device) if plain else harness_steps(task, device, LOSSES[side])
    steps(1)
    burst = BURST[device]
    times = f", {burst} steps" if burst > 1 else ""
    row(f"training step, {task.title}{times}", side, "peer" if plain else "ours", lambda: steps(burst))


def plain_steps(task: Task, device: str) -> Steps:
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

    model, batches = model_of(task).to(device), forever()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    criterion = torch.nn.CrossEntropyLoss()

    def steps(count: int) -> None:
        for _ in range(count):
            x, y = (part.to(device) for part in next(batches))
            optimiser.zero_grad()
            criterion(model(x), y).backward()
            optimiser.step()

    return steps
