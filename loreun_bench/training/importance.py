"""How much parameters matter to a loss: the empirical Fisher matrix, its diagonal, its inverse."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor


def mean_squared_gradients(
    parameters: Sequence[Tensor], batches: Iterable[Tensor], loss: Callable[[Tensor], Tensor], power: int = 2
) -> list[Tensor]:
    """The mean over batches of |gradient of loss(batch)|^power, a tensor a parameter.

    The square of a batch's mean gradient is about 1/n of that of a sample: only importances by one batch size compare.
    """
    total, count = [torch.zeros_like(p) for p in parameters], 0
    for positions in batches:
        found = torch.autograd.grad(loss(positions), parameters, allow_unused=True, materialize_grads=True)
        torch._foreach_add_(total, [g.abs() if power == 1 else g.square() for g in found])
        count += 1
    torch._foreach_div_(total, max(count, 1))
    return total


def adapted_ratio(part: Sequence[Tensor], whole: Sequence[Tensor], share: float) -> float:
    """Of the ratios of importances, those that are finite, the percentile 100 - log(1 + 100·share), where `share` of the
    samples of `whole` are in `part`. Source: ASSD (Schoepf et al., 2024)."""
    ratio = torch.cat([(p / w).flatten() for p, w in zip(part, whole, strict=True)])
    ratio = ratio[ratio.isfinite()].sort().values
    return float(ratio[round((1 - math.log1p(100 * share) / 100) * (len(ratio) - 1))])


def inverse_fisher(vector: Tensor, gradients: Iterable[Tensor], count: int) -> Tensor:
    """F⁻¹ vector [n], with F the mean of `count` samples' outer products of gradients [n], by WoodFisher's recursion as
    it is published for unlearning: it keeps one vector of F⁻¹, so that it is no exact inverse."""
    solved, first = vector.clone(), None
    for g in gradients:
        if first is None:
            first = g
            continue
        damped = count + first @ g
        solved, first = solved - (solved @ g) / damped * first, first - (first @ g) / damped * first
    return solved
