"""Boundary shrink: the forget set moves across the nearest boundary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Gt

from loreun_bench.classification.unlearning.gradient import GradientMethod
from loreun_bench.classification.unlearning.method import Context, Data, Rate
from loreun_bench.decorators import method

if TYPE_CHECKING:
    from torch import Tensor, nn


@method("Boundary-shrink", uses={"forget"}, paper="Chen et al., CVPR 2023")
@dataclass(frozen=True)
class BoundaryShrink(GradientMethod):
    """Fit on the forget set the labels that the original gives to pictures changed by one step of `epsilon` (of 1) against
    their own; the retain set is never read. (Code that is about moves pixels by about 0.25 where it says 0.1.)"""

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
