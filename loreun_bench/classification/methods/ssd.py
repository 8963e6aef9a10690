"""SSD: weights that matter to the forget set more than to all data are dampened; nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge, Gt

from loreun_bench.classification.unlearning.method import Context, Data, Method
from loreun_bench.decorators import method

if TYPE_CHECKING:
    from torch import Tensor, nn


@method("SSD", uses={"forget", "retain"}, paper="Foster et al., AAAI 2024")
@dataclass(frozen=True)
class SelectiveSynapticDampening(Method):
    """Where a weight's importance to the forget set is `alpha` times that to the training set, the weight is multiplied by
    `dampening` times their ratio, at most 1.

    Importances are mean squared gradients of batches: alpha goes with no batch size, as both are by the same. labels:
    False takes the squared norm of the logits for the loss, and magnitudes of gradients (LFSSD). alpha: 0 chooses it by
    the size of the forget set (ASSD).
    """

    space: ClassVar[Mapping[str, tuple[float, float]]] = {"alpha": (1.0, 300.0)}

    alpha: Annotated[float, Ge(0)] = 10.0
    dampening: Annotated[float, Gt(0)] = 1.0
    batch_size: Annotated[int, Ge(1)] = 64
    labels: bool = True

    def samples(self, sizes: Mapping[str, int]) -> int:
        """The forget set twice, the retain set once."""
        return 2 * sizes["forget"] + sizes["retain"]

    def unlearn(self, model: nn.Module, data: Data, context: Context) -> nn.Module:
        """Dampen in place."""
        import torch

        from loreun_bench.classification.unlearning.evaluating import cross_entropy, importances, joined, moving
        from loreun_bench.training.importance import adapted_ratio

        def norm(logits: Tensor, labels: Tensor) -> Tensor:
            return logits.square().sum(1).mean()

        how = (context, self.batch_size, cross_entropy if self.labels else norm, 2 if self.labels else 1)
        of_forget = importances(model, data.forget, *how)
        of_all = importances(model, joined(data.forget, data.retain), *how)
        alpha = self.alpha or adapted_ratio(of_forget, of_all, len(data.forget) / (len(data.forget) + len(data.retain)))
        with torch.no_grad():
            for weight, forget, every in zip(moving(model), of_forget, of_all, strict=True):
                factor = (self.dampening * every / forget).clamp(max=1)
                weight.copy_(torch.where(forget > alpha * every, weight * factor, weight))
        return model
