"""EraseDiff: random labelling whose forget loss counts as much as the retain loss's gradient allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge

from loreun_bench.decorators import method
from loreun_bench.generation.methods.rl import RandomLabel
from loreun_bench.generation.unlearning.method import Context

if TYPE_CHECKING:
    from torch import Tensor, nn


@method("EraseDiff", uses={"forget", "retain"}, paper="Wu et al., CVPR 2025", track="generation")
@dataclass(frozen=True)
class EraseDiff(RandomLabel):
    """Minimise the retain loss plus λ times RL's forget loss: λ is `fixed`, or max(0, `margin` - cosine of the two
    gradients), so that forgetting counts where it stands against what is kept.

    The paper's inner steps are left out: their result is a constant of the loss, as the authors' code computes it, and a
    fixed λ is RL with alpha = 1 / λ.
    """

    rule: Literal["adaptive", "fixed"] = "adaptive"
    fixed: Annotated[float, Ge(0)] = 0.1
    margin: Annotated[float, Ge(0)] = 0.1

    def active(self) -> tuple[str, ...]:
        """Both phases: also where alpha is 0 the factor is of both gradients."""
        return ("forget", "retain")

    @property
    def backward_passes(self) -> int:
        """The adaptive rule needs each loss's gradient, and then that of their sum."""
        return 2 if self.rule == "adaptive" else 1

    def combined(
        self, forget: Tensor, retain: Tensor | None, parameters: Mapping[str, nn.Parameter], context: Context
    ) -> Tensor:
        """With the factor, through which no gradient flows."""
        import torch

        assert retain is not None
        if self.rule == "fixed":
            return self.alpha * retain + self.fixed * forget
        weights = list(parameters.values())
        slopes = [
            torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True,
                                                                materialize_grads=True)])
            for loss in (forget, retain)
        ]  # fmt: skip
        factor = (self.margin - torch.nn.functional.cosine_similarity(slopes[0], slopes[1], dim=0)).clamp(min=0)
        return self.alpha * retain + factor * forget
