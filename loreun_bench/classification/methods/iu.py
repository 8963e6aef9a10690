"""IU: one step along the inverse Fisher matrix, which undoes the forget set's influence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge, Gt

from loreun_bench.classification.unlearning.method import Context, Data, Method
from loreun_bench.decorators import method

if TYPE_CHECKING:
    from torch import Tensor, nn


@method("IU", uses={"forget", "retain"}, paper="Izzo et al., AISTATS 2021; Jia et al., NeurIPS 2023 (WoodFisher)")
@dataclass(frozen=True)
class InfluenceUnlearning(Method):
    """θ + alpha F⁻¹ (what the forget set's gradient adds to the mean), with the Fisher matrix F of `pictures` retain
    pictures, drawn at random, by the recursion that is published: it keeps one vector of F⁻¹, so that it is no exact
    inverse. The result is sensitive to alpha: tune it."""

    space: ClassVar[Mapping[str, tuple[float, float]]] = {"alpha": (0.03, 100.0)}

    alpha: Annotated[float, Gt(0)] = 1.0
    pictures: Annotated[int, Ge(1)] = 1000
    batch_size: Annotated[int, Ge(1)] = 256

    def samples(self, sizes: Mapping[str, int]) -> int:
        """All pictures once, and those of F one by one."""
        return sizes["forget"] + sizes["retain"] + min(self.pictures, sizes["retain"])

    def unlearn(self, model: nn.Module, data: Data, context: Context) -> nn.Module:
        """Step in place."""
        import torch

        from loreun_bench.classification.unlearning.evaluating import gradient_sum, in_order, moving
        from loreun_bench.training.importance import inverse_fisher

        def flat(gradients: list[Tensor]) -> Tensor:
            return torch.cat([g.flatten() for g in gradients])  # torch's own wants them contiguous

        forget, retain = len(data.forget), len(data.retain)
        sets = data.forget, data.retain
        of_forget, of_retain = (flat(gradient_sum(model, part, context, in_order(part, self.batch_size))) for part in sets)
        direction = of_forget / (forget + retain) - of_retain * forget / ((forget + retain) * retain)
        order = torch.randperm(retain, generator=context.stream("order", "fisher"), device=context.device)[: self.pictures]
        each = (flat(gradient_sum(model, data.retain, context, [position])) for position in order.split(1))
        step = inverse_fisher(direction, each, len(order))
        weights = moving(model)
        with torch.no_grad():
            for weight, part in zip(weights, step.split([w.numel() for w in weights]), strict=True):
                weight.add_(part.view(weight.shape), alpha=self.alpha)
        return model
