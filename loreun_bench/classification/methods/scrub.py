"""SCRUB, and SCRUB+R, which goes back to the epoch that looks most like unseen data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Gt

from loreun_bench.classification.unlearning.gradient import GradientMethod
from loreun_bench.classification.unlearning.method import Asked, Context, Data, Epochs, Rate
from loreun_bench.decorators import method
from loreun_bench.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass
class _Made:
    """The teacher, and the weights after each epoch if they are asked for."""

    teacher: nn.Module
    after: list[dict[str, Tensor]] = field(default_factory=list)


@method("SCRUB", uses={"forget", "retain"}, paper="Kurmanji et al., NeurIPS 2023")
@dataclass(frozen=True)
class Scrub(GradientMethod):
    """Away from the original on the forget set for `ascents` epochs, and towards it on the retain set in every epoch:
    -KD, then gamma·CE + alpha·KD, of logits divided by `temperature`."""

    epochs: Epochs = 3
    lr: Rate = 5e-4
    batch_size: Annotated[int, Ge(2)] = 128
    forget_batch_size: Annotated[int, Ge(2)] = 32
    ascents: Annotated[int, Ge(1)] = 2
    gamma: Annotated[float, Ge(0)] = 0.99
    alpha: Annotated[float, Ge(0)] = 0.001
    temperature: Annotated[float, Gt(0)] = 4.0

    @property
    def forget_scale(self) -> float:
        """The divergence grows."""
        return -1.0

    def size_of(self, phase: str) -> int:
        """Small batches to forget, as the authors'."""
        return self.forget_batch_size if phase == "forget" else self.batch_size

    def runs_in(self, phase: str, epoch: int) -> bool:
        """The last epochs only repair."""
        return phase == "retain" or epoch < self.ascents

    def prepare(self, model: nn.Module, data: Data, context: Context) -> Any:
        """The original model teaches."""
        from loreun_bench.training.frozen import teacher

        return _Made(teacher(model))

    def losses(self, phase: str, x: Tensor, logits: Tensor, targets: Tensor, context: Context) -> Tensor:
        """KD, and in the retain phase the cross entropy with it [n]."""
        from torch.nn import functional as F

        from loreun_bench.training.distillation import divergence, taught

        kept = divergence(logits, taught(context.prepared.teacher, x, context), self.temperature)
        if phase == "forget":
            return kept
        return self.gamma * F.cross_entropy(logits.float(), targets, reduction="none") + self.alpha * kept


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

    def after_epoch(self, model: nn.Module, context: Context) -> None:
        """A copy of the weights."""
        context.prepared.after.append({name: value.clone() for name, value in model.state_dict().items()})

    def unlearn(self, model: nn.Module, data: Data, context: Context) -> nn.Module:
        """SCRUB, then back to the epoch whose forget error is nearest to the reference."""
        from loreun_bench.classification.unlearning.evaluating import error_of, of_classes

        model = super().unlearn(model, data, context)
        unseen = of_classes(data.validation, data.forget.labels.unique())
        wanted = error_of(model, unseen if len(unseen) else data.validation, context)
        gaps = []
        for weights in context.prepared.after:
            model.load_state_dict(weights)
            gaps.append(abs(error_of(model, data.forget, context) - wanted))
        if gaps:  # of equals the last, which was repaired most
            model.load_state_dict(context.prepared.after[max(k for k, gap in enumerate(gaps) if gap == min(gaps))])
        return model
