"""Boundary unlearning: the forget set moves across the nearest boundary (shrink), or to a class of its own (expand)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Gt

from loreun_bench.classification.unlearning.gradient import GradientMethod
from loreun_bench.classification.unlearning.method import Asked, Context, Data, Rate
from loreun_bench.decorators import method
from loreun_bench.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn


@method("Boundary-shrink", uses={"forget"}, paper="Chen et al., CVPR 2023")
@dataclass(frozen=True)
class BoundaryShrink(GradientMethod):
    """Fit on the forget set the labels that the original gives to pictures changed by one step of `epsilon` (of 1) against
    their own; the retain set is never read."""

    lr: Rate = 1e-5
    weight_decay: Annotated[float, Ge(0)] = 0.0
    epsilon: Annotated[float, Gt(0)] = 0.1

    def prepare(self, model: nn.Module, data: Data, context: Context) -> Any:
        """The labels across the boundary [n]; those of pictures that it does not reach stay."""
        import torch

        from loreun_bench.classification.unlearning.evaluating import attacked

        return torch.cat(list(attacked(model, data.forget, self.epsilon, context)))

    def forget_targets(self, labels: Tensor, data: Data, context: Context) -> Tensor:
        """The neighbours."""
        neighbours: Tensor = context.prepared
        return neighbours


@method("Boundary-expand", uses={"forget"}, paper="Chen et al., CVPR 2023")
@dataclass(frozen=True)
class BoundaryExpand(GradientMethod):
    """Fit the forget set to a further class, whose output is thrown away afterwards; the retain set is never read."""

    lr: Rate = 1e-5
    weight_decay: Annotated[float, Ge(0)] = 0.0

    def check(self, asked: Asked) -> None:
        """The further output is one more of the last linear layer."""
        from loreun_bench.training.frozen import classifier

        if classifier(asked.model, asked.classes) is None:
            raise UserError(f"it needs a last linear layer with {asked.classes} outputs, and the network has none")

    def prepare(self, model: nn.Module, data: Data, context: Context) -> Any:
        """The further output, at the last linear layer's input."""
        from loreun_bench.training.frozen import FurtherOutput

        return FurtherOutput(model, data.classes, context.stream("init", "further", device="cpu"))

    def parameters(self, model: nn.Module, context: Context) -> Iterable[nn.Parameter]:
        """The model's and the output's."""
        return [*model.parameters(), *context.prepared.layer.parameters()]

    def losses(self, phase: str, x: Tensor, logits: Tensor, targets: Tensor, context: Context) -> Tensor:
        """The cross entropy with the further class [n]."""
        import torch

        wide = torch.cat([logits, context.prepared()], 1).float()
        further = torch.full_like(targets, logits.shape[1])
        return torch.nn.functional.cross_entropy(wide, further, reduction="none")

    def unlearn(self, model: nn.Module, data: Data, context: Context) -> nn.Module:
        """Expand, and leave the output behind."""
        model = super().unlearn(model, data, context)
        context.prepared.remove()
        return model
