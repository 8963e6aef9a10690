"""Stages run by two ranks, several of them in one start of their processes, to be compared with one process."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import torch

from loreun_bench.harness import ranks
from loreun_bench.harness.work import Task, failed

CLOSE = 3e-5  # of the weights' norm, in float32


def by_two(stages, labels, folder):
    """By label what two ranks make of the stages: tensors, values and costs."""
    tasks = {label: stages.task(stages.stages[label]) for label in labels}
    found = ranks.run(2, "cpu", folder, partial(outputs, tasks), failed)
    return {label: (_tensors(made), *rest) for label, (made, *rest) in found.items()}


def _tensors(arrays):
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def outputs(tasks: dict[str, Task], rank: int) -> dict[str, Any]:
    """In a rank: what it makes, as far as all ranks agree on it."""
    found = {}
    for label, task in tasks.items():
        made = ranks.agreed(task.stage.function()(task.stage.config, task.inputs, "cpu"))
        found[label] = {name: t.numpy() for name, t in made.tensors.items()}, made.values, made.cost
    return found if rank == 0 else {}


def check_same(one, two, together=False):
    """An artifact of one process and what two made: weights to the last digits, weightings' summaries, counts. together: of
    all tensors, as Adam's first steps are as long where the gradient is rounding alone."""
    tensors, values, cost = two
    expected = one.tensors()
    assert expected.keys() == tensors.keys()
    if together:
        whole = [torch.cat([t.flatten() for _, t in sorted(each.items())]) for each in (expected, tensors)]
        expected, tensors = ({"all": each} for each in whole)
    for name, tensor in expected.items():
        far = (tensors[name].double() - tensor.double()).norm() / tensor.double().norm().clamp(min=1e-9)
        assert far <= CLOSE, (name, float(far))
    assert {k: v for k, v in values.items() if k != "weights"} == {k: v for k, v in one.values().items() if k != "weights"}
    for phase, summary in one.values().get("weights", {}).items():
        for what, numbers in summary.items():
            torch.testing.assert_close(values["weights"][phase][what], numbers, atol=2e-3, rtol=1e-3)
    counts = [name for name in cost if name.endswith("_samples")]
    assert counts
    assert {name: cost[name] for name in counts} == {name: one.cost[name] for name in counts}


def in_double(rank: int, sizes: tuple[int, ...] = (7, 2, 3)) -> list[dict[str, Any]]:
    """Of batches of these sizes, one after the other, everything that a step may ask of a network with batch norm."""
    from torch import nn

    from loreun_bench.ops import loreun_cross_entropy
    from loreun_bench.training.parallel import gathered, spread

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 4)).double()
    seen: list[torch.Tensor] = []
    model[3].register_forward_pre_hook(lambda _, inputs: seen.append(gathered(inputs[0])))
    found = []
    with spread(model):
        for size in sizes:
            x = torch.randn(size, 1, 4, 4, dtype=torch.double, requires_grad=True)
            y = torch.randint(4, (size,))
            loss = loreun_cross_entropy(model(x), y, eta=2.0, direction="retain")
            loss = loss + seen[-1].square().sum(1).max() + sum(p.abs().sum() for p in model.parameters())
            asked = torch.autograd.grad(loss, [x, *model.parameters()], retain_graph=True)
            loss.backward()
            tensors = {"loss": loss, "pictures": asked[0]} | {f"asked {k}": t for k, t in enumerate(asked[1:])}
            tensors |= {name: p.grad for name, p in model.named_parameters()} | dict(model.named_buffers())
            found.append({name: t.detach().clone().numpy() for name, t in tensors.items()})
    return found


def trouble(kind: str, rank: int) -> None:
    """The second rank has it, while the first waits for it."""
    import torch.distributed as dist

    from loreun_bench.errors import Diverged

    if rank == 1 and kind == "raises":
        raise Diverged("the second rank's loss is NaN")
    if rank == 1 and kind == "dies":
        os._exit(3)
    dist.all_reduce(torch.zeros(1))
