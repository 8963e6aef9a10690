"""SuperLoss's weights: easy samples up, hard ones down."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Gt

from loreun_bench.decorators import weighting
from loreun_bench.weightings import Batch

if TYPE_CHECKING:
    from torch import Tensor


@weighting(
    "superloss", paper="SuperLoss, Castells et al., NeurIPS 2020; in MU-Bench, Cheng & Amiri 2024", tracks={"classification"}
)
@dataclass(frozen=True)
class SuperLoss:
    """Forget samples weigh more below the loss of a guess, log of the number of classes, and less above it.
    Classification."""

    regularisation: Annotated[float, Gt(0)] = 1.0

    def weights(self, batch: Batch) -> Tensor:
        """exp(-W(max(-2/e, β) / 2)) with β = (ℓ - log C) / regularisation, W the principal branch of Lambert's function."""
        guess = math.log(batch.probabilities.shape[1])
        beta = (batch.clean_losses - guess) / self.regularisation
        return (-_lambert(beta.clamp(min=-2 / math.e) / 2)).exp()


def _lambert(x: Tensor) -> Tensor:
    """W(x) for x ≥ -1/e [n], in float64 and without a look at the values: Halley's steps from log(1 + x), or, near the
    branch point, where they would be slow, from its series."""
    x = x.double()
    p = (2 * (math.e * x + 1)).clamp(min=0).sqrt()
    w = (-1 + p - p.square() / 3).where(x < -0.2, x.clamp(min=-0.3).log1p())
    for _ in range(6):
        e = w.exp()
        f = w * e - x
        w = w - (f / (e * (w + 1) - (w + 2) * f / (2 * w + 2))).nan_to_num(posinf=0.0, neginf=0.0)
    return w.float()
