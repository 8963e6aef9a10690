"""LoReUn's retain weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from loreun_bench.decorators import weighting
from loreun_bench.weightings import Eta, Phase


@weighting("w_r", paper="LoReUn, NeurIPS 2024 workshop, eq. 5", defaults={"generation": {"eta_r": 0.2}})
@dataclass(frozen=True)
class RetainWeight:
    """Retain samples whose loss has grown weigh more."""

    eta_r: Eta = 0.25

    def phases(self) -> Mapping[str, Phase]:
        """The retain phase, by current loss."""
        return {"retain": Phase("retain", self.eta_r)}
