"""LoReUn-s of the later version: static weights from the original model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt

from loreun_bench.decorators import weighting
from loreun_bench.weightings import Phase


@weighting("loreun-s", paper="LoReUn, arXiv 2507.22499 (from its abstract)")
@dataclass(frozen=True)
class StaticForgetWeight:
    """Forget samples that the original model fits best weigh more, throughout.

    The later paper's settings are not at hand: temperature 1 is our guess.
    """

    temperature: Annotated[float, Gt(0)] = 1.0

    def phases(self) -> Mapping[str, Phase]:
        """The forget phase, by the loss on the original model."""
        return {"forget": Phase("forget", 1 / self.temperature, score="original")}
