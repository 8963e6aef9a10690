"""The batch's normalisation over the ranks of a process group: one exchange of three numbers per rank."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def gather(batch: Tensor, group: Any, normalize: str = "batch") -> tuple[Tensor, int]:
    """(log-normaliser, weighted mean and baseline of the batch that spans all ranks, number of ranks).

    batch: float64 [3], this rank's. A rank without rows (log-normaliser -inf) adds nothing.
    """
    ranks = dist.get_world_size(group)
    parts = [torch.empty_like(batch) for _ in range(ranks)]
    dist.all_gather(parts, batch.detach().contiguous(), group=group)
    normaliser, mean, _ = torch.stack(parts).unbind(1)
    if normalize == "none":
        total, share = normaliser[0], torch.ones_like(mean)
    else:  # of a mean, the logarithm of the number of rows
        total = torch.logsumexp(normaliser, 0)
        share = torch.exp(normaliser - total)
    whole = (share * mean.where(normaliser != float("-inf"), 0.0)).sum()
    return torch.stack([total, whole, whole if normalize == "batch" else torch.zeros_like(whole)]), ranks


def combine(
    batch: Tensor, scale: float, group: Any, normalize: str, dtype: torch.dtype
) -> tuple[Tensor, Tensor, float]:
    """(loss of the whole batch, its `batch`, the scale of this rank's gradient).

    Data-parallel training divides gradients by the number of ranks: the local gradient is multiplied by it, so that
    what is averaged is the gradient of the loss over all ranks. The loss returned is that one, on every rank.
    """
    whole, ranks = gather(batch, group, normalize)
    return (scale * whole[1]).to(dtype), whole, scale * ranks
