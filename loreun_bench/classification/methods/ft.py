"""Fine-tuning, the baseline that merely trains on."""

from __future__ import annotations

from dataclasses import dataclass

from loreun_bench.classification.unlearning.gradient import GradientMethod
from loreun_bench.decorators import method


@method("FT", uses={"retain"}, paper="Warnecke et al., NDSS 2023")
@dataclass(frozen=True)
class FineTune(GradientMethod):
    """Train on, on the retain set only, and hope that the rest is forgotten."""
