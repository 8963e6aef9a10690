"""DELETE: the original's answers, with the true class taken away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge

from loreun_bench.classification.unlearning.gradient import GradientMethod
from loreun_bench.classification.unlearning.method import Context, Data, Epochs, Rate
from loreun_bench.decorators import method

if TYPE_CHECKING:
    from torch import Tensor, nn


@method("DELETE", uses={"forget"}, paper="Zhou et al., CVPR 2025")
@dataclass(frozen=True)
class DecoupledDistillation(GradientMethod):
    """The forget set is to be answered as the original answers where the true class is impossible; the retain set is never
    read. Made for the forgetting of classes."""

    epochs: Epochs = 20
    lr: Rate = 1e-4
    batch_size: Annotated[int, Ge(2)] = 128
    weight_decay: Annotated[float, Ge(0)] = 0.0

    def prepare(self, model: nn.Module, data: Data, context: Context) -> Any:
        """The original model teaches."""
        from loreun_bench.training.frozen import teacher

        return teacher(model)

    def losses(self, phase: str, x: Tensor, logits: Tensor, targets: Tensor, context: Context) -> Tensor:
        """KL to the original's softmax over the other classes [n]."""
        from loreun_bench.training.distillation import divergence, taught

        known = taught(context.prepared, x, context).scatter(1, targets[:, None], float("-inf"))
        # The student's own true class stays: it is what must become impossible.
        return divergence(logits, known)
