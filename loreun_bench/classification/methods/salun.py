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
        from loreun_bench.training.saliency import GradientMask, HardMask, top_fraction

        parameters = [p for p in model.parameters() if p.requires_grad]
        gradient = forget_gradient(model, data, context, self.batch_size)
        masks = top_fraction(gradient, self.density, round if context.protocol.exact_mask else int)
        return (HardMask if context.protocol.hard_mask else GradientMask)(parameters, masks)


def forget_gradient(model: nn.Module, data: Data, context: Context, batch_size: int) -> list[Tensor]:
    """The gradient of the forget set's mean loss, one tensor a parameter, in evaluation mode; the model stays as it is.

    Signed gradients are summed over all samples before anyone takes their magnitude (SalUn, eq. 3). Under protocol
    `paper` it is the sum of the mean losses of shuffled batches of `batch_size`.
    """
    import torch

    from loreun_bench.classification.data.images import Augment
    from loreun_bench.classification.unlearning.phase import EVALUATION_BATCH
    from loreun_bench.training.loop import autocast, epoch

    forget, parameters = data.forget, [p for p in model.parameters() if p.requires_grad]
    augment = None if context.protocol.clean_mask else Augment(context.recipe.crop, context.recipe.flip)
    model.eval()
    total = [torch.zeros_like(p) for p in parameters]
    exact = context.protocol.exact_mask
    if exact:
        batches = torch.arange(len(forget), device=context.device).split(EVALUATION_BATCH)
    else:
        batches = epoch(len(forget), batch_size, context.stream("order", "mask"))
    for positions in batches:
        x = forget.images.batch(forget.index[positions], augment, context.stream("augment", "mask"))
        with autocast(context.device, context.precision):
            logits = model(x)
        loss = torch.nn.functional.cross_entropy(logits.float(), forget.labels[positions], reduction="sum")
        loss = loss / len(forget if exact else positions)
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        torch._foreach_add_(total, list(gradients))
    context.meter.forward_samples += len(forget)
    context.meter.backward_samples += len(forget)
    return total
