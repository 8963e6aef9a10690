"""Gradient ascent."""

from __future__ import annotations

from dataclasses import dataclass

from loreun_bench.classification.unlearning.gradient import GradientMethod
from loreun_bench.classification.unlearning.method import Epochs, Rate
from loreun_bench.decorators import method


@method("GA", uses={"forget"}, paper="Thudi et al., EuroS&P 2022")
@dataclass(frozen=True)
class GradientAscent(GradientMethod):
    """Climb the loss of the forget set; the retain set is never read."""

    epochs: Epochs = 5
    lr: Rate = 1e-4

    @property
    def forget_scale(self) -> float:
        """Ascent."""
        return -1.0
