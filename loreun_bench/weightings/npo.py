"""Negative preference optimisation's weights: how far a sample is from the original model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Gt

from loreun_bench.decorators import weighting
from loreun_bench.weightings import Batch

if TYPE_CHECKING:
    from torch import Tensor


@weighting("npo", paper="NPO, Zhang et al., COLM 2024")
@dataclass(frozen=True)
class PreferenceWeight:
    """Forget samples weigh less the more their loss has grown since the original model: ascent with these weights is the
    gradient of NPO, here for each sample. Both tracks."""

    beta: Annotated[float, Gt(0)] = 0.1

    def weights(self, batch: Batch) -> Tensor:
        """2 sigmoid(-beta (ℓ - ℓ of the original)), not renormalised; 1 at the start."""
        return 2 * (-self.beta * (batch.clean_losses - batch.original_losses)).sigmoid()
