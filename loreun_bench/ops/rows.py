"""The rows of a call, and their losses: from the compiled operator's passes, or in plain PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from loreun_bench.ops import checks, reference
from loreun_bench.ops.autograd import Rows
from loreun_bench.ops.rules import Weighting


def differentiable(*values: Any) -> bool:
    """Whether a gradient must flow into any of these: the kernels have none but that of their first argument."""
    return any(isinstance(value, Tensor) and value.requires_grad and torch.is_grad_enabled() for value in values)


class Losses(NamedTuple):
    """Of `loreun_losses`: objective and score loss of every row [N], which rows are not ignored [N], and what their classes
    weigh [N], which is in the objective already; None: the same."""

    objective: Tensor
    score: Tensor
    kept: Tensor
    class_weight: Tensor | None = None


@dataclass(frozen=True)
class CrossEntropy:
    """The rows of a `loreun_cross_entropy` call, and what is known of them."""

    logits: Tensor
    target: Tensor
    score_target: Tensor | None
    class_weight: Tensor | None = None
    ignore_index: int = -100
    label_smoothing: float = 0.0

    kind: ClassVar = "ce"

    @property
    def x(self) -> Tensor:
        """What the gradient is with respect to."""
        return self.logits

    @property
    def shared(self) -> tuple[int, float]:
        """What both passes are told beside tensors."""
        return self.ignore_index, self.label_smoothing

    def check(self, score_loss: Tensor | None, w: Weighting, inplace: bool = False, rows: int | None = None) -> None:
        """All that can be wrong, in words."""
        labels = self.target, self.score_target
        checks.cross_entropy(
            self.logits, *labels, self.class_weight, *self.shared, score_loss, w.ref, w.ratio, inplace, rows=rows
        )

    def fits(self) -> bool:
        """Whether the kernels have this objective: not that of probabilities, nor smoothing over weighted classes."""
        return not self.target.is_floating_point() and not (self.class_weight is not None and self.label_smoothing)

    def losses(self, compiled: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """The losses, the class weights in them, from the compiled operator's passes or in plain PyTorch."""
        if not compiled:
            of_class = None if self.class_weight is None else self.class_weight.to(checks.accumulator(self.logits))
            return reference.cross_entropy(self.logits, self.target, self.score_target, of_class, *self.shared)
        objective, score, kept = Rows.apply("ce", self.logits, self.target, self.score_target, self.shared)
        prior = self.prior()
        return objective if prior is None else objective * prior, score, kept

    def prior(self) -> Tensor | None:
        """What the rows' classes weigh [N]."""
        if self.class_weight is None or self.target.is_floating_point():
            return None
        label = self.target.where(self.target != self.ignore_index, 0)
        return self.class_weight.to(checks.accumulator(self.logits))[label]


@dataclass(frozen=True)
class MeanSquared:
    """The rows of a `loreun_mse_loss` call."""

    input: Tensor
    target: Tensor
    score_target: Tensor | None
    reduction: str = "mean"

    kind: ClassVar = "mse"
    class_weight: ClassVar = None

    @property
    def x(self) -> Tensor:
        """What the gradient is with respect to."""
        return self.input

    @property
    def shared(self) -> tuple[bool]:
        """What both passes are told beside tensors."""
        return (self.reduction == "mean",)

    def check(self, score_loss: Tensor | None, w: Weighting, inplace: bool = False, rows: int | None = None) -> None:
        """All that can be wrong, in words."""
        checks.mean_squared(self.input, self.target, self.score_target, score_loss, w.ref, w.ratio)

    def fits(self) -> bool:
        """Whether the kernels have this objective: not with a gradient for the target."""
        return not differentiable(self.target)

    def losses(self, compiled: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """The losses, from the compiled operator's passes or in plain PyTorch."""
        if not compiled:
            return *reference.mean_squared(self.input, self.target, self.score_target, *self.shared), None
        objective, score, _ = Rows.apply("mse", self.input, self.target, self.score_target, self.shared)
        return objective, score, None

    def prior(self) -> Tensor | None:
        """There are no classes."""
        return None
