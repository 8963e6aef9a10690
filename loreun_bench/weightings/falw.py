"""FaLW's weights: how far a sample is from what unseen pictures of its class look like to the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Gt

from loreun_bench.decorators import weighting
from loreun_bench.weightings import Batch

if TYPE_CHECKING:
    from torch import Tensor


@weighting("falw", paper="FaLW, arXiv 2601.18650 (ICLR 2026)", tracks={"classification"})
@dataclass(frozen=True)
class UnseenLike:
    """Forget samples that the model knows better than unseen pictures of their class weigh up to twice as much, others down
    to nothing: forgetting stops where retraining would end. The balance for rare classes is left out, as it knows one
    batch only. Classification; needs validation pictures.
    """

    temperature: Annotated[float, Gt(0)] = 1.0
    needs_validation: ClassVar[bool] = True

    def weights(self, batch: Batch) -> Tensor:
        """1 + sign(z) tanh(|z|)^(1/temperature), z = (p - mean) / deviation of the class's unseen pictures."""
        mean, deviation = batch.unseen_probabilities[:, batch.labels]
        z = ((-batch.clean_losses).exp() - mean) / deviation.clamp(min=1e-6)
        known: Tensor = z.sign() * z.abs().tanh() ** (1 / self.temperature)
        return 1 + known
