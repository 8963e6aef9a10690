"""CT: convolutions' kernels are turned over, then trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge

from loreun_bench.classification.unlearning.gradient import GradientMethod
from loreun_bench.classification.unlearning.method import Asked, Context, Data, Epochs, Rate
from loreun_bench.decorators import method
from loreun_bench.errors import UserError

if TYPE_CHECKING:
    from torch import nn


@method("CT", uses={"retain"}, paper="5th of the NeurIPS 2023 challenge; Cadet et al., arXiv 2410.01276")
@dataclass(frozen=True)
class ConvolutionTranspose(GradientMethod):
    """Every convolution's kernel is turned over its diagonal; then train on, on the retain set."""

    epochs: Epochs = 3
    lr: Rate = 1e-3
    batch_size: Annotated[int, Ge(2)] = 64
    lr_schedule: Literal["constant", "cosine", "triangle"] = "cosine"

    def check(self, asked: Asked) -> None:
        """There must be kernels that are square and larger than 1."""
        from loreun_bench.training.frozen import convolutions

        if not any(_turns(layer) for layer in convolutions(asked.model)):
            raise UserError("it turns square kernels larger than 1×1, and the network has none")

    def unlearn(self, model: nn.Module, data: Data, context: Context) -> nn.Module:
        """Turn in place, then repair."""
        from loreun_bench.training.frozen import convolutions

        for layer in filter(_turns, convolutions(model)):
            layer.weight.data.copy_(layer.weight.data.transpose(2, 3).clone())
        return super().unlearn(model, data, context)


def _turns(layer: nn.Conv2d) -> bool:
    return layer.kernel_size[0] == layer.kernel_size[1] > 1
