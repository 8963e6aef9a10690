"""Loss reweightings, one small file each. A weighting says, for each phase, how the batch's losses become weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

from annotated_types import Ge

Eta = Annotated[float, Ge(0)]
PHASES = frozenset({"forget", "retain"})  # of unlearning, that can be weighted


@dataclass(frozen=True)
class Phase:
    """How one phase of unlearning is weighted: w ∝ exp(∓eta·score), renormalised over the batch.

    direction: "forget" (small losses weigh more, eq. 4) or "retain" (large losses weigh more, eq. 5).
    score: "current", the clean-label loss on the model being unlearned, which the step computes anyway; or "original",
    each sample's loss on the original model, which costs one evaluation pass before unlearning begins.
    """

    direction: Literal["forget", "retain"]
    eta: float
    score: Literal["current", "original"] = "current"

    def __post_init__(self) -> None:
        if not math.isfinite(self.eta):
            raise ValueError(f"eta = {self.eta} is not finite")
        if self.direction not in ("forget", "retain") or self.score not in ("current", "original"):
            raise ValueError(f"direction {self.direction!r} or score {self.score!r} is none that a phase can have")


class Weighting(Protocol):
    """What a weighting file defines: settings, and the phases it weights. A phase left out has uniform weights."""

    name: str

    def phases(self) -> Mapping[str, Phase]:
        """The weighted phases, of "forget" and "retain"."""
        ...
