"""LoReUn-d of the later version: dynamic weights from the current model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt

from loreun_bench.decorators import weighting
from loreun_bench.weightings import Phase


@weighting("loreun-d", paper="LoReUn, arXiv 2507.22499 (from its abstract)")
@dataclass(frozen=True)
class DynamicForgetWeight:
    """Forget samples whose current loss is small weigh more: `w_f` with eta_f = 1/temperature.

    The later paper's settings are not at hand: temperature 1 is our guess.
    """

    temperature: Annotated[float, Gt(0)] = 1.0

    def phases(self) -> Mapping[str, Phase]:
        """The forget phase, by current loss."""
        return {"forget": Phase("forget", 1 / self.temperature)}
