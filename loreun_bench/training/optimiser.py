"""Optimisers and learning-rate schedules, from torch, by name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import lr_scheduler


def make_optimiser(
    parameters: Iterable[nn.Parameter] | list[dict[str, Any]], name: str, lr: float, momentum: float, weight_decay: float,
    nesterov: bool = False,
) -> torch.optim.Optimizer:  # fmt: skip
    """SGD with momentum, Adam or AdamW, fused; of parameters, or of groups with settings of their own."""
    if name in ("adam", "adamw"):
        adam = torch.optim.Adam if name == "adam" else torch.optim.AdamW
        return adam(parameters, lr=lr, weight_decay=weight_decay, fused=True)
    return torch.optim.SGD(
        parameters, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov, fused=True
    )


def biases_apart(model: nn.Module, lr: float, weight_decay: float, times: float) -> list[dict[str, Any]]:
    """Groups for `make_optimiser`: biases (and what else has one dimension) learn at `times` the rate and shrink as fast as
    all else (Jordan 2024, arXiv 2404.00498, section 3.4)."""
    learning = [each for each in model.parameters() if each.requires_grad]
    flat = {"lr": lr * times, "weight_decay": weight_decay / times}
    return [
        {"params": [each for each in learning if each.dim() > 1]},
        {"params": [each for each in learning if each.dim() <= 1], **flat},
    ]


def make_schedule(
    optimiser: torch.optim.Optimizer,
    name: str,
    steps: int,
    steps_per_epoch: int,
    milestones: Sequence[int] = (),
    gamma: float = 0.1,
) -> lr_scheduler.LRScheduler | None:
    """The schedule, stepped once a training step. None for a constant rate.

    one-cycle: up in a straight line for the first quarter of `steps`, then down to nearly 0; triangle: for the first
    half; cosine: down to nearly 0. Milestones are in epochs.
    """
    if name == "cosine":
        return lr_scheduler.LambdaLR(optimiser, lambda k: (1 + math.cos(math.pi * k / max(steps, 1))) / 2)
    if name in ("one-cycle", "triangle"):  # torch's OneCycleLR divides by zero for four steps
        up = max(1, steps // (4 if name == "one-cycle" else 2))
        return lr_scheduler.LambdaLR(optimiser, lambda k: min((k + 1) / up, (steps - k) / max(steps - up + 1, 1)))
    if name == "multistep":
        return lr_scheduler.MultiStepLR(optimiser, [m * steps_per_epoch for m in milestones], gamma)
    return None
