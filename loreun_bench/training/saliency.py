"""The saliency mask of SalUn: which weights may move, as a constraint that holds whatever the optimiser does."""

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


class HardMask:
    """Weights outside the mask stay, to the bit, where they are now: no momentum, weight decay or Adam moves them."""

    def __init__(self, parameters: Sequence[Tensor], masks: Sequence[Tensor]) -> None:
        self._parameters = [p.data for p in parameters]
        self._masks = list(masks)  # as booleans, a byte an entry: a denoiser's mask as floats would be 3 GB
        self._held = [p.detach() * ~m for m, p in zip(masks, parameters, strict=True)]

    def before_step(self) -> None:
        """Nothing: what the optimiser does outside the mask is undone after it."""

    def after_step(self) -> None:
        """p·m + p₀·(1 - m): exact, as one of the two terms is 0."""
        torch._foreach_mul_(self._parameters, self._masks)
        torch._foreach_add_(self._parameters, self._held)


class GradientMask:
    """Only the gradient is masked, as SalUn's code did until 2026: momentum and weight decay still move the rest."""

    def __init__(self, parameters: Sequence[Tensor], masks: Sequence[Tensor]) -> None:
        self._parameters = list(parameters)
        self._masks = [m.to(p.dtype) for m, p in zip(masks, parameters, strict=True)]

    def before_step(self) -> None:
        """Zero the gradient outside the mask."""
        pairs = [(p.grad, m) for p, m in zip(self._parameters, self._masks, strict=True) if p.grad is not None]
        torch._foreach_mul_([g for g, _ in pairs], [m for _, m in pairs])

    def after_step(self) -> None:
        """Nothing."""
