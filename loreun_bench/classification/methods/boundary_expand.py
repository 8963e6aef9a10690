"""Boundary expand: the forget set moves to a class of its own, which is thrown away."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge

from loreun_bench.classification.unlearning.gradient import GradientMethod
from loreun_bench.classification.unlearning.method import Asked, Context, Data, Rate
from loreun_bench.decorators import method
from loreun_bench.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn


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
