"""LoReUn's two weights together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from loreun_bench.decorators import weighting
from loreun_bench.weightings import Eta, Phase


@weighting("w_f+w_r", paper="LoReUn, NeurIPS 2024 workshop, eqs. 4-6", defaults={"generation": {"eta_r": 0.2}})
@dataclass(frozen=True)
class BothWeights:
    """w_f on the forget samples and w_r on the retain samples."""

    eta_f: Eta = 0.1
    eta_r: Eta = 0.25

    def phases(self) -> Mapping[str, Phase]:
        """Both phases, by current loss."""
        return {"forget": Phase("forget", self.eta_f), "retain": Phase("retain", self.eta_r)}
