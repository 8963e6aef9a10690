"""LoReUn's forget weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from loreun_bench.decorators import weighting
from loreun_bench.weightings import Eta, Phase


@weighting("w_f", paper="LoReUn, NeurIPS 2024 workshop, eq. 4")
@dataclass(frozen=True)
class ForgetWeight:
    """Forget samples whose clean-label loss is still small weigh more."""

    eta_f: Eta = 0.1

    def phases(self) -> Mapping[str, Phase]:
        """The forget phase, by current loss."""
        return {"forget": Phase("forget", self.eta_f)}
