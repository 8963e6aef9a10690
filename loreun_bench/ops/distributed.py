"""The batch softmax over the ranks of a process group: one exchange of two numbers per rank."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def gather(batch: Tensor, group: Any) -> tuple[Tensor, int]:
    """(log-normaliser and weighted mean of the batch that spans all ranks, number of ranks).

    batch: float64 [2], this rank's. A rank without rows (log-normaliser -inf) adds nothing.
    """
    ranks = dist.get_world_size(group)
    parts = [torch.empty_like(batch) for _ in range(ranks)]
    dist.all_gather(parts, batch.detach().contiguous(), group=group)
    normaliser, mean = torch.stack(parts).unbind(1)
    total = torch.logsumexp(normaliser, 0)
    share = torch.exp(normaliser - total)
    return torch.stack([total, (share * mean.where(normaliser != float("-inf"), 0.0)).sum()]), ranks


def combine(
    batch: Tensor, settings: tuple[Any, ...], group: Any, dtype: torch.dtype
) -> tuple[Tensor, Tensor, tuple[Any, ...]]:
    """(loss of the whole batch, its `batch`, settings whose scale, the last, is multiplied by the number of ranks).

    Data-parallel training divides gradients by the number of ranks: the local gradient is multiplied by it, so that
    what is averaged is the gradient of the loss over all ranks. The loss returned is that one, on every rank.
    """
    whole, ranks = gather(batch, group)
    *others, scale = settings
    return (scale * whole[1]).to(dtype), whole, (*others, scale * ranks)
