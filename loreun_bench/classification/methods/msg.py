"""MSG: convolutions forget the weights that matter to neither set apart, then train on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge

from loreun_bench.classification.unlearning.gradient import GradientMethod
from loreun_bench.classification.unlearning.method import Asked, Context, Data, Epochs, Rate, Share
from loreun_bench.decorators import method
from loreun_bench.errors import UserError

if TYPE_CHECKING:
    from torch import nn

    from loreun_bench.training.loop import Constraint


@method("MSG", uses={"forget", "retain"}, paper="2nd of the NeurIPS 2023 challenge; Cadet et al., arXiv 2410.01276")
@dataclass(frozen=True)
class MaskedSmallGradients(GradientMethod):
    """In every convolution the `share` of weights with the smallest |gradient of retain less forget loss| begin anew; then
    train on, on the retain set, the gradients of its other weights times `slow`."""

    epochs: Epochs = 5
    lr: Rate = 1e-3
    batch_size: Annotated[int, Ge(2)] = 64
    lr_schedule: Literal["constant", "cosine", "triangle"] = "triangle"
    share: Share = 0.3
    slow: Annotated[float, Ge(0)] = 0.1

    @property
    def forget_scale(self) -> float:
        """The forget set is looked at, and not trained on."""
        return 0.0

    def check(self, asked: Asked) -> None:
        """There must be convolutions."""
        from loreun_bench.training.frozen import convolutions

        if not convolutions(asked.model):
            raise UserError("it changes convolutions, and the network has none")

    def constraint(self, model: nn.Module, data: Data, context: Context) -> Constraint:
        """Reset in place; what stayed moves slowly from then on."""
        from loreun_bench.classification.unlearning.evaluating import gradient_sum, in_order, moving, part_of
        from loreun_bench.training.constraints import GradientMask
        from loreun_bench.training.frozen import convolutions
        from loreun_bench.training.saliency import renew_smallest

        some = part_of(data.retain, len(data.forget), context.stream("order", "reset"))
        forget, retain = (gradient_sum(model, part, context, in_order(part, 1000)) for part in (data.forget, some))
        slope = {id(p): r / len(some) - f / len(data.forget) for p, r, f in zip(moving(model), retain, forget, strict=True)}
        generator, weights = context.stream("init", "reset", device="cpu"), [layer.weight for layer in convolutions(model)]
        kept = [renew_smallest(weight, slope[id(weight)], self.share, generator) for weight in weights]
        return GradientMask(weights, [1 - (1 - self.slow) * mask.float() for mask in kept])
