"""The saliency mask of SalUn: which weights matter."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def top_fraction(gradients: Sequence[Tensor], density: float, whole: Callable[[float], int] = round) -> list[Tensor]:
    """Boolean masks of the `density` share of all entries with the largest magnitude, ranked over all tensors together.

    Exactly whole(density·n) entries are chosen; among equal magnitudes the earlier entry wins, so that the mask does
    not depend on the device or the sorting. Source: SalUn (ICLR 2024), eq. 3.
    """
    magnitude = torch.cat([g.abs().flatten() for g in gradients])
    keep = whole(density * magnitude.numel())
    chosen = torch.zeros_like(magnitude, dtype=torch.bool)
    if keep > 0:
        threshold = magnitude.kthvalue(magnitude.numel() - keep + 1).values
        chosen = magnitude > threshold
        ties = (magnitude == threshold).nonzero().squeeze(1)
        chosen[ties[: keep - int(chosen.sum())]] = True
    parts = chosen.split([g.numel() for g in gradients])
    return [part.view_as(g) for part, g in zip(parts, gradients, strict=True)]


def renew_smallest(weight: Tensor, slope: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """The `share` of a weight's entries whose slope is smallest in magnitude begin anew, in place (Kaiming's normal
    distribution, fan out, drawn on the CPU); returns the boolean mask of those that stay."""
    fresh = torch.nn.init.kaiming_normal_(torch.empty(weight.shape), mode="fan_out", generator=generator)
    (kept,) = top_fraction([slope], 1 - share)
    weight.data.copy_(torch.where(kept, weight.data, fresh.to(weight)))
    return kept
