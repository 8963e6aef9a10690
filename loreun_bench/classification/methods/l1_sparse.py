"""l1-sparse: fine-tuning with a penalty that makes weights small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

from loreun_bench.classification.unlearning.gradient import GradientMethod
from loreun_bench.classification.unlearning.method import Context
from loreun_bench.decorators import method

if TYPE_CHECKING:
    from torch import Tensor, nn


@method("l1-sparse", uses={"retain"}, paper="Jia et al., NeurIPS 2023")
@dataclass(frozen=True)
class L1Sparse(GradientMethod):
    """Train on on the retain set, with alpha times the sum of all parameters' magnitudes, less from epoch to epoch.

    alpha goes with a network's size, as the norm is a sum. The last `free_epochs` have no penalty.
    """

    alpha: Annotated[float, Ge(0)] = 1e-4
    free_epochs: Annotated[int, Ge(0)] = 0

    def penalty(self, model: nn.Module, epoch: int, context: Context) -> Tensor | None:
        """alpha (1 - epoch / epochs with a penalty) Σ|θ|."""
        import torch

        penalised = self.epochs - self.free_epochs
        if epoch >= penalised:
            return None
        norms = torch.stack(torch._foreach_norm(list(model.parameters()), 1))
        return self.alpha * (1 - epoch / penalised) * norms.sum()
