"""How much parameters matter to a loss: mean squared gradients, the diagonal of an empirical Fisher matrix."""

from __future__ import annotations

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
