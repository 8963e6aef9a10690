"""SCRUB+R: SCRUB, rewound to the epoch that looks most like unseen data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge

from loreun_bench.classification.methods.scrub import Scrub
from loreun_bench.classification.unlearning.method import Asked, Context, Data, Epochs
from loreun_bench.decorators import method
from loreun_bench.errors import UserError

if TYPE_CHECKING:
    from torch import nn


@method("SCRUB+R", uses={"forget", "retain", "validation"}, paper="Kurmanji et al., NeurIPS 2023")
@dataclass(frozen=True)
class ScrubRewind(Scrub):
    """SCRUB with the settings of its attack experiments, rewound to the epoch whose error on the forget set is nearest to
    the final error on validation pictures of the forgotten classes."""

    epochs: Epochs = 5
    ascents: Annotated[int, Ge(1)] = 3
    gamma: Annotated[float, Ge(0)] = 1.0
    alpha: Annotated[float, Ge(0)] = 0.5

    def check(self, asked: Asked) -> None:
        """Without validation pictures there is nothing to go back to."""
        if not asked.sizes["validation"]:
            raise UserError("it rewinds by validation pictures, and there are none: set `validation`")

    def prepare(self, model: nn.Module, data: Data, context: Context) -> Any:
        """SCRUB's, and room for what it goes back to."""
        context.kept["after"] = []
        return super().prepare(model, data, context)

    def after_epoch(self, model: nn.Module, context: Context) -> None:
        """A copy of the weights."""
        context.kept["after"].append({name: value.clone() for name, value in model.state_dict().items()})

    def unlearn(self, model: nn.Module, data: Data, context: Context) -> nn.Module:
        """SCRUB, then back to the epoch whose forget error is nearest to the reference."""
        from loreun_bench.classification.unlearning.evaluating import error_of, of_classes

        model = super().unlearn(model, data, context)
        unseen = of_classes(data.validation, data.forget.labels.unique())
        wanted = error_of(model, unseen if len(unseen) else data.validation, context)
        gaps, after = [], context.kept["after"]
        for weights in after:
            model.load_state_dict(weights)
            gaps.append(abs(error_of(model, data.forget, context) - wanted))
        if gaps:  # of equals the last, which was repaired most
            model.load_state_dict(after[max(k for k, gap in enumerate(gaps) if gap == min(gaps))])
        return model
