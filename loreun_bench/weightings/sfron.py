"""SFR-on's weights: a power of the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Gt

from loreun_bench.decorators import weighting
from loreun_bench.weightings import Batch

if TYPE_CHECKING:
    from torch import Tensor


@weighting("sfron", paper="SFR-on, Huang et al., NeurIPS 2024")
@dataclass(frozen=True)
class LossPower:
    """Forget samples whose clean loss is small weigh more, by a power of it: w_f of the logarithm. Both tracks."""

    power: Annotated[float, Gt(0)] = 0.5
    normalize: ClassVar[str] = "batch"

    def weights(self, batch: Batch) -> Tensor:
        """ℓ^-power; a loss of 0 is taken for the smallest normal number."""
        return batch.clean_losses.clamp(min=1.2e-38) ** -self.power
