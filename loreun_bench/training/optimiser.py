"""Optimisers and learning-rate schedules, from torch, by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import nn
from torch.optim import lr_scheduler


def make_optimiser(
    parameters: Iterable[nn.Parameter], name: str, lr: float, momentum: float, weight_decay: float
) -> torch.optim.Optimizer:
    """SGD with momentum, or Adam, fused."""
    if name == "adam":
        return torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay, fused=True)
    return torch.optim.SGD(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay, fused=True)


def make_schedule(
    optimiser: torch.optim.Optimizer,
    name: str,
    lr: float,
    steps: int,
    steps_per_epoch: int,
    milestones: Sequence[int] = (),
    gamma: float = 0.1,
) -> lr_scheduler.LRScheduler | None:
    """The schedule, stepped once a training step; milestones are in epochs. None for a constant rate."""
    if name == "one-cycle":
        return lr_scheduler.OneCycleLR(
            optimiser, lr, total_steps=max(steps, 2), pct_start=0.25, cycle_momentum=False, anneal_strategy="linear"
        )
    if name == "multistep":
        return lr_scheduler.MultiStepLR(optimiser, [m * steps_per_epoch for m in milestones], gamma)
    return None
