"""Random labelling, the method that LoReUn builds on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge

from loreun_bench.classification.unlearning.gradient import GradientMethod
from loreun_bench.classification.unlearning.method import Context, Data
from loreun_bench.decorators import method

if TYPE_CHECKING:
    from torch import Tensor


@method("RL", uses={"forget", "retain"}, paper="Golatkar et al., CVPR 2020; LoReUn eq. 1")
@dataclass(frozen=True)
class RandomLabel(GradientMethod):
    """Fit random labels on the forget set and the given labels on the retain set.

    relabel: "pass" draws new labels for each pass over the forget set, "fixed" once.
    """

    alpha: Annotated[float, Ge(0)] = 1.0
    relabel: Literal["pass", "fixed"] = "pass"

    @property
    def retain_scale(self) -> float:
        """α of eq. 1."""
        return self.alpha

    def forget_targets(self, labels: Tensor, data: Data, context: Context) -> Tensor:
        """Uniform over the other labels; under protocol `paper` over all of them."""
        import torch

        generator = context.stream("labels")
        if self.relabel == "fixed":
            generator.manual_seed(generator.initial_seed())
        others = data.classes - 1 if context.protocol.other_label else data.classes
        drawn = torch.randint(others, labels.shape, generator=generator, device=labels.device)
        return drawn + (drawn >= labels) if context.protocol.other_label else drawn
