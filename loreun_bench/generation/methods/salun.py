"""SalUn for denoisers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Gt, Le

from loreun_bench.decorators import method
from loreun_bench.generation.methods.rl import RandomLabel
from loreun_bench.generation.unlearning.method import Context, Data

if TYPE_CHECKING:
    from torch import Tensor, nn

    from loreun_bench.generation.pipeline.pipelines import Pipeline
    from loreun_bench.training.loop import Constraint


@method("SalUn", uses={"forget", "retain"}, paper="Fan et al., ICLR 2024", track="generation")
@dataclass(frozen=True)
class SalUn(RandomLabel):
    """RL that moves only the `density` share of the denoiser's weights with the largest gradient of the forget loss.

    mask_guidance: the gradient is of guided predictions, ε(∅) + g (ε(c) - ε(∅)); 1 takes the plain denoising loss. SalUn's
    code has them as (1 + g') ε(c) - g' ε(∅) with g' = 7.5, which is g = 8.5 here.
    """

    density: Annotated[float, Gt(0), Le(1)] = 0.5
    mask_guidance: Annotated[float, Gt(0)] = 8.5

    def constraint(
        self, pipeline: Pipeline, parameters: Mapping[str, nn.Parameter], data: Data, context: Context
    ) -> Constraint:
        """The saliency mask of the denoiser as it is now, over the parameters that may move."""
        from loreun_bench.training.constraints import HardMask
        from loreun_bench.training.saliency import top_fraction

        weights = list(parameters.values())
        return HardMask(weights, top_fraction(self._gradient(pipeline, weights, data, context), self.density))

    def _gradient(self, pipeline: Pipeline, weights: list[nn.Parameter], data: Data, context: Context) -> list[Tensor]:
        """Signed gradients of one pass over the forget set, summed before anyone takes their magnitude (SalUn, eq. 3)."""
        import torch

        from loreun_bench.generation.unlearning.gradient import noised, predict

        total = [torch.zeros_like(p) for p in weights]
        for positions in torch.arange(len(data.forget)).split(self.batch_size):
            batch = noised(pipeline, data.forget, positions, context, "mask")
            found = predict(pipeline, batch.noisy, batch.t, data.texts[batch.concepts], context)
            if self.mask_guidance != 1:
                without = predict(pipeline, batch.noisy, batch.t, pipeline.no_text.expand(len(positions), -1, -1), context)
                found = without + self.mask_guidance * (found - without)
            target = pipeline.denoising_target(batch.latents, batch.noise, batch.t)
            loss = (found - target).square().flatten(1).mean(1).sum() / len(data.forget)
            gradients = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
            torch._foreach_add_(total, list(gradients))
            context.meter.backward_samples += len(positions)
        return total
