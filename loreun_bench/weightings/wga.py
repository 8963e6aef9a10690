"""Weighted gradient ascent's weights: a power of the probability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Gt

from loreun_bench.decorators import weighting
from loreun_bench.weightings import Batch

if TYPE_CHECKING:
    from torch import Tensor


@weighting("wga", paper="WGA, Wang et al., ICLR 2025")
@dataclass(frozen=True)
class Confidence:
    """Forget samples weigh as much as the model still believes their label: p^beta. Both tracks (p = exp(-loss))."""

    beta: Annotated[float, Gt(0)] = 1.0

    def weights(self, batch: Batch) -> Tensor:
        """exp(-beta ℓ), not renormalised: what is forgotten counts no more."""
        return (-self.beta * batch.clean_losses).exp()
