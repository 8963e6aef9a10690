"""SCRUB: away from the original on the forget set, towards it on the retain set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Gt

from loreun_bench.classification.unlearning.gradient import GradientMethod
from loreun_bench.classification.unlearning.method import Context, Data, Epochs, Rate
from loreun_bench.decorators import method

if TYPE_CHECKING:
    from torch import Tensor, nn


@method("SCRUB", uses={"forget", "retain"}, paper="Kurmanji et al., NeurIPS 2023")
@dataclass(frozen=True)
class Scrub(GradientMethod):
    """-KD on the forget set for `ascents` epochs, gamma·CE + alpha·KD on the retain set in all; logits by `temperature`."""

    epochs: Epochs = 3
    lr: Rate = 5e-4
    batch_size: Annotated[int, Ge(2)] = 128
    forget_batch_size: Annotated[int, Ge(2)] = 32
    ascents: Annotated[int, Ge(1)] = 2
    gamma: Annotated[float, Ge(0)] = 0.99
    alpha: Annotated[float, Ge(0)] = 0.001
    temperature: Annotated[float, Gt(0)] = 4.0

    @property
    def forget_scale(self) -> float:
        """The divergence grows."""
        return -1.0

    def size_of(self, phase: str) -> int:
        """Small batches to forget, as the authors'."""
        return self.forget_batch_size if phase == "forget" else self.batch_size

    def runs_in(self, phase: str, epoch: int) -> bool:
        """The last epochs only repair."""
        return phase == "retain" or epoch < self.ascents

    def prepare(self, model: nn.Module, data: Data, context: Context) -> Any:
        """The original model teaches."""
        from loreun_bench.training.frozen import teacher

        return teacher(model)

    def losses(self, phase: str, x: Tensor, logits: Tensor, targets: Tensor, context: Context) -> Tensor:
        """KD, and in the retain phase the cross entropy with it [n]."""
        from torch.nn import functional as F

        from loreun_bench.training.distillation import divergence, taught

        kept = divergence(logits, taught(context.prepared, x, context), self.temperature)
        if phase == "forget":
            return kept
        return self.gamma * F.cross_entropy(logits.float(), targets, reduction="none") + self.alpha * kept
