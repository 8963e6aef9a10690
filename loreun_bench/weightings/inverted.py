"""A control: LoReUn's forget weight the wrong way round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from loreun_bench.decorators import weighting
from loreun_bench.weightings import Eta, Phase


@weighting("inverted")
@dataclass(frozen=True)
class Inverted:
    """w_f with -eta_f: forget samples that are forgotten already weigh more. If it does as well, direction does not matter.
    Both tracks."""

    eta_f: Eta = 0.1
    control_of: ClassVar[str] = "w_f"

    def phases(self) -> Mapping[str, Phase]:
        """The forget phase, by current loss, as the retain phase is weighted."""
        return {"forget": Phase("retain", self.eta_f)}
