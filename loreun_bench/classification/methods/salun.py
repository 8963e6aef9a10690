"""SalUn: random labelling of the weights that matter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from loreun_bench.classification.methods.rl import RandomLabel
from loreun_bench.classification.unlearning.method import Context, Data, Share
from loreun_bench.decorators import method

if TYPE_CHECKING:
    from torch import Tensor, nn

    from loreun_bench.training.loop import Constraint


@method("SalUn", uses={"forget", "retain"}, paper="Fan et al., ICLR 2024")
@dataclass(frozen=True)
class SalUn(RandomLabel):
    """RL that moves only the `density` share of weights with the largest gradient of the forget loss."""

    density: Share = 0.5

    def constraint(self, model: nn.Module, data: Data, context: Context) -> Constraint:
        """The saliency mask of `model` as it is now, over all parameters."""
        from loreun_bench.training.constraints import GradientMask, HardMask
        from loreun_bench.training.saliency import top_fraction

        parameters = [p for p in model.parameters() if p.requires_grad]
        gradient = forget_gradient(model, data, context, self.batch_size)
        masks = top_fraction(gradient, self.density, round if context.protocol.exact_mask else int)
        return (HardMask if context.protocol.hard_mask else GradientMask)(parameters, masks)


def forget_gradient(model: nn.Module, data: Data, context: Context, batch_size: int) -> list[Tensor]:
    """The gradient of the forget set's mean loss, one tensor a parameter, in evaluation mode; the model stays as it is.

    Signed gradients are summed over all samples before anyone takes their magnitude (SalUn, eq. 3). Under protocol
    `paper` it is the sum of the mean losses of shuffled batches of `batch_size`.
    """
    from loreun_bench.classification.data.images import Augment
    from loreun_bench.classification.unlearning.evaluating import gradient_sum, in_order, summed
    from loreun_bench.classification.unlearning.phase import EVALUATION_BATCH
    from loreun_bench.training.loop import epoch

    forget, exact = data.forget, context.protocol.exact_mask
    augment = None if context.protocol.clean_mask else Augment.of(context.recipe)
    order = context.stream("order", "mask")
    batches = in_order(forget, EVALUATION_BATCH) if exact else epoch(len(forget), batch_size, order)

    def mean(logits: Tensor, labels: Tensor) -> Tensor:
        return summed(logits, labels) / len(forget if exact else labels)

    return gradient_sum(model, forget, context, batches, mean, augment)
