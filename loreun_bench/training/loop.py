"""The one training step loop, for training and for unlearning, in both tracks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from loreun_bench.harness.progress import report
from loreun_bench.training.guards import FiniteGuard, check_parameters
from loreun_bench.training.snapshots import Snapshots, Weights

Batch = TypeVar("Batch")


class Constraint(Protocol):
    """Something that keeps parameters where they must be, such as a saliency mask."""

    def before_step(self) -> None:
        """Called when gradients are ready."""
        ...

    def after_step(self) -> None:
        """Called when parameters have moved."""
        ...


def run_steps(
    model: nn.Module,
    batches: Iterable[Batch],
    objective: Callable[[Batch], Tensor],
    optimiser: torch.optim.Optimizer,
    schedule: Any = None,
    constraint: Constraint | None = None,
    total: int = 0,
    snapshots: Snapshots | None = None,
) -> None:
    """One optimiser step for each batch. `objective(batch)` is the scalar loss. Raises Diverged when it is not finite.

    total: how many batches there are, if that is known, for the display of progress. snapshots: keeps checkpoints, from
    which a run that was killed goes on; `batches` must not depend on what steps change.
    """
    guard, batches, done = FiniteGuard(), iter(batches), 0
    if snapshots is not None:
        weights = Weights(model, optimiser)
        done = snapshots.begin(model, batches, weights=weights, optimiser=optimiser, schedule=schedule, guard=guard)
    for number, batch in enumerate(batches, done):
        report(number / total if total else 0.0)
        loss = objective(batch)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        guard.watch(loss)
        if constraint is not None:
            constraint.before_step()
        optimiser.step()
        if constraint is not None:
            constraint.after_step()
        if schedule is not None:
            schedule.step()
        if snapshots is not None:
            snapshots.after(model, number + 1, batch)
    guard.verdict()
    check_parameters(model.parameters())


def epoch(size: int, batch_size: int, generator: torch.Generator, least: int = 1) -> tuple[Tensor, ...]:
    """Positions 0 … size-1 in a random order, in batches as `cuts` says; none is left out."""
    order = torch.randperm(size, generator=generator, device=generator.device)
    return tuple(order.split(cuts(size, batch_size, least)))


def cuts(size: int, batch_size: int, least: int = 1) -> list[int]:
    """The sizes of an epoch's batches; the last may be smaller, and if it has fewer than `least` samples it is one with
    the batch before it, so that batch norm never sees a lone sample."""
    whole, rest = divmod(size, batch_size)
    if whole and 0 < rest < least <= batch_size:
        return [batch_size] * (whole - 1) + [batch_size + rest]
    return [batch_size] * whole + [rest] * (rest > 0)


def autocast(device: str, precision: str) -> torch.autocast:
    """bf16 autocast on CUDA (or where asked for); fp32 elsewhere."""
    enabled = precision == "bf16" or (precision == "auto" and device == "cuda")
    return torch.autocast(device, dtype=torch.bfloat16, enabled=enabled)
