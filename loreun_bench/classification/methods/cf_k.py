"""CF-k: only the last blocks unlearn, by training on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge

from loreun_bench.classification.unlearning.gradient import GradientMethod
from loreun_bench.classification.unlearning.method import Asked, Context, Data
from loreun_bench.decorators import method
from loreun_bench.errors import UserError

if TYPE_CHECKING:
    from torch import nn


@method("CF-k", uses={"retain"}, paper="Goel et al., arXiv 2201.06640")
@dataclass(frozen=True)
class CatastrophicForgetting(GradientMethod):
    """The classifier and the last `k` blocks before it train on, on the retain set; all else stays, batch norm, too.

    Blocks are counted as they are registered: a whole stage of a ResNet-18, which other code calls one, is two here.
    """

    weight_decay: Annotated[float, Ge(0)] = 5e-5
    k: Annotated[int, Ge(0)] = 1

    def check(self, asked: Asked) -> None:
        """There must be a block that stays."""
        from loreun_bench.training.frozen import blocks

        if self.k + 1 >= (count := len(blocks(asked.model))):
            raise UserError(f"k = {self.k} leaves no block as it is: the network has {count}, the classifier among them")

    def prepare(self, model: nn.Module, data: Data, context: Context) -> Any:
        """The blocks that move; no gradient flows below them."""
        from loreun_bench.training.frozen import last_blocks

        return last_blocks(model, self.k)

    def parameters(self, model: nn.Module, context: Context) -> Iterable[nn.Parameter]:
        """Theirs."""
        return [weight for part in context.prepared for weight in part.parameters()]

    def settle(self, model: nn.Module, context: Context) -> None:
        """What stays is in evaluation mode."""
        model.eval()
        for part in context.prepared:
            part.train()
        if self.freeze_batchnorm:
            super().settle(model, context)
