"""What must hold of the steps of an optimiser: weights that stay, gradients that are masked or cut."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


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


class Clip:
    """The gradient's norm is cut to `norm`."""

    def __init__(self, parameters: Sequence[Tensor], norm: float) -> None:
        self._parameters, self._norm = list(parameters), norm

    def before_step(self) -> None:
        """Cut."""
        torch.nn.utils.clip_grad_norm_(self._parameters, self._norm)

    def after_step(self) -> None:
        """Nothing."""


class Sometimes:
    """Constraints on gradients, one after the other, that hold while `on`."""

    def __init__(self, *constraints: GradientMask | Clip) -> None:
        self._constraints, self.on = constraints, True

    def before_step(self) -> None:
        """Each one's."""
        for constraint in self._constraints if self.on else ():
            constraint.before_step()

    def after_step(self) -> None:
        """Nothing."""
