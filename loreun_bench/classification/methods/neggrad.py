"""NegGrad+: descent on the retain set, ascent on the forget set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from loreun_bench.classification.unlearning.gradient import GradientMethod
from loreun_bench.classification.unlearning.method import Share
from loreun_bench.decorators import method


@method("NegGrad+", uses={"forget", "retain"}, paper="Kurmanji et al., NeurIPS 2023")
@dataclass(frozen=True)
class NegGradPlus(GradientMethod):
    """Minimise β·(retain loss) - (1 - β)·(forget loss), a batch of each in every step."""

    schedule: Literal["sequential", "paired"] = "paired"
    beta: Share = 0.95

    @property
    def forget_scale(self) -> float:
        """-(1 - β)."""
        return self.beta - 1

    @property
    def retain_scale(self) -> float:
        """β."""
        return self.beta
