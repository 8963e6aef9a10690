"""SatImp's weights: what is not yet saturated, and what matters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

from loreun_bench.decorators import weighting
from loreun_bench.weightings import Batch

if TYPE_CHECKING:
    from torch import Tensor


@weighting("satimp", paper="SatImp, Yang et al., ICML 2025")
@dataclass(frozen=True)
class SaturationImportance:
    """Forget samples weigh p^saturation (1 - p)^importance, of the probability p of their label. Both tracks."""

    saturation: Annotated[float, Ge(0)] = 5.0
    importance: Annotated[float, Ge(0)] = 1.0

    def weights(self, batch: Batch) -> Tensor:
        """Of p = exp(-ℓ), not renormalised."""
        loss = batch.clean_losses
        return (-self.saturation * loss).exp() * (-(-loss).expm1()).clamp(min=0) ** self.importance
