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


@method("MSG", uses={"forget", "retain"}, paper="2nd of the NeurIPS 2023 challenge; Cadet et al., arXiv 2410.01276")
@dataclass(frozen=True)
class MaskedSmallGradients(GradientMethod):
    """In every convolution the `share` of weights with the smallest |gradient of retain less forget loss| begin anew; then
    train on, on the retain set."""

    epochs: Epochs = 5
    lr: Rate = 1e-3
    batch_size: Annotated[int, Ge(2)] = 64
    lr_schedule: Literal["constant", "cosine", "triangle"] = "triangle"
    share: Share = 0.3

    @property
    def forget_scale(self) -> float:
        """The forget set is looked at, and not trained on."""
        return 0.0

    def check(self, asked: Asked) -> None:
        """There must be convolutions."""
        from loreun_bench.training.frozen import convolutions

        if not convolutions(asked.model):
            raise UserError("it changes convolutions, and the network has none")

    def unlearn(self, model: nn.Module, data: Data, context: Context) -> nn.Module:
        """Reset in place, then repair."""
        import torch

        from loreun_bench.classification.unlearning.evaluating import gradient_sum, in_order, moving, part_of
        from loreun_bench.training.frozen import convolutions
        from loreun_bench.training.saliency import top_fraction

        some = part_of(data.retain, len(data.forget), context.stream("order", "reset"))
        forget, retain = (gradient_sum(model, part, context, in_order(part, 1000)) for part in (data.forget, some))
        slope = {id(p): r / len(some) - f / len(data.forget) for p, r, f in zip(moving(model), retain, forget, strict=True)}
        generator = context.stream("init", "reset", device="cpu")
        for layer in convolutions(model):
            fresh = torch.nn.init.kaiming_normal_(torch.empty(layer.weight.shape), mode="fan_out", generator=generator)
            (kept,) = top_fraction([slope[id(layer.weight)]], 1 - self.share)
            layer.weight.data.copy_(torch.where(kept, layer.weight.data, fresh.to(layer.weight)))
        return super().unlearn(model, data, context)
