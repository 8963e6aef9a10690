"""Exact unlearning, the standard that all others are measured by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge

from loreun_bench.classification.unlearning.method import Context, Data, Method
from loreun_bench.decorators import method

if TYPE_CHECKING:
    from torch import nn


@method("Retrain", uses={"retain"}, paper="exact unlearning, Bourtoule et al., S&P 2021")
@dataclass(frozen=True)
class Retrain(Method):
    """A new model trained on the retain set only, with the recipe of the original: same epochs, schedule, selection."""

    from_scratch: ClassVar[bool] = True
    spreads: ClassVar[bool] = True

    replicate: Annotated[int, Ge(0)] = 0  # another retrain of the same split differs in this number

    def samples(self, sizes: Mapping[str, int]) -> int:
        """Counted by the stage, as for the original."""
        return 0

    def unlearn(self, model: nn.Module, data: Data, context: Context) -> nn.Module:
        """Train `model`, which comes with fresh initial weights."""
        from loreun_bench.classification.unlearning.fitting import fit

        return fit(model, data.retain, None, context)
