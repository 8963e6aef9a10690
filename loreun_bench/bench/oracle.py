"""The right answer in double precision, from the closed form; it shares no code with the operator or its peers."""

from __future__ import annotations

import torch
from torch import Tensor

from loreun_bench.bench.cases import ALPHA, ETA_FORGET, ETA_RETAIN, Case, Inputs


def solve(case: Case, inputs: Inputs) -> tuple[float, tuple[Tensor, ...]]:
    """The loss and its gradient with respect to each variable, float64."""
    tensors = [t.detach().to(torch.float64, copy=True) if t.is_floating_point() else t for t in inputs.tensors]
    if case.kind == "mean squared":
        loss, gradient = _mean_squared(*tensors)
        return loss, (gradient,)
    x, target, clean, *retain = tensors
    loss, gradient = _cross_entropy(x, target, clean, -ETA_FORGET)
    if not retain:
        return loss, (gradient,)
    second, second_gradient = _cross_entropy(retain[0], retain[1], retain[1], ETA_RETAIN)
    return loss + ALPHA * second, (gradient, ALPHA * second_gradient)


def errors(loss: Tensor, gradients: tuple[Tensor, ...], answer: tuple[float, tuple[Tensor, ...]]) -> tuple[float, float]:
    """Relative error of the loss, and of the gradients in norm: ‖g − g°‖ / ‖g°‖."""
    expected, references = answer
    off = sum(float((g.double() - r).norm() ** 2) for g, r in zip(gradients, references, strict=True))
    norm = sum(float(r.norm() ** 2) for r in references)
    return abs(float(loss) - expected) / abs(expected), (off / norm) ** 0.5


def _cross_entropy(x: Tensor, target: Tensor, score: Tensor, rate: float) -> tuple[float, Tensor]:
    """Σ w ℓ(x, target) with w ∝ exp(rate · ℓ(x, score)); x is overwritten with the gradient w (p − e)."""
    rows = torch.arange(len(x), device=x.device)
    log_sum = torch.logsumexp(x, 1)
    loss, clean = log_sum - x[rows, target], log_sum - x[rows, score]
    raw = torch.exp(rate * clean - (rate * clean).max())
    w = raw / raw.sum()
    gradient = x.sub_(log_sum[:, None]).exp_()
    gradient[rows, target] -= 1
    return float(w @ loss), gradient.mul_(w[:, None])


def _mean_squared(x: Tensor, target: Tensor, score: Tensor, reference: Tensor) -> tuple[float, Tensor]:
    flat = [t.flatten(1) for t in (x, target, score)]
    loss, clean = ((flat[0] - other).square().sum(1) / flat[0].shape[1] for other in flat[1:])
    raw = torch.exp(-ETA_FORGET * (clean / reference - (clean / reference).min()))
    w = raw / raw.sum()
    gradient = (2 / flat[0].shape[1]) * w[:, None] * (flat[0] - flat[1])
    return float(w @ loss), gradient.view_as(x)
