"""Random labelling for denoisers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loreun_bench.decorators import method
from loreun_bench.generation.unlearning.gradient import GradientMethod
from loreun_bench.generation.unlearning.method import Context, Data

if TYPE_CHECKING:
    from torch import Tensor

    from loreun_bench.generation.pipeline.pipelines import Pipeline


@method("RL", uses={"forget", "retain"}, paper="Fan et al., ICLR 2024, section 4; LoReUn eq. 3", track="generation")
@dataclass(frozen=True)
class RandomLabel(GradientMethod):
    """Make the prediction for a forgotten concept's prompt that for another concept's, and denoise the rest as before."""

    def forget_target(
        self, pipeline: Pipeline, noisy: Callable[[], Tensor], t: Tensor, concepts: Tensor, data: Data, context: Context
    ) -> Tensor:
        """ε_θ(z_t | c') of the model as it is now, detached: c' is drawn for each sample among the kept concepts."""
        import torch

        from loreun_bench.generation.unlearning.gradient import predict

        others = torch.tensor([data.others(number) for number in range(len(data.texts))], device=concepts.device)
        if context.protocol.random_other:
            generator = context.stream("other")
            step = torch.randint(1, others.shape[1] + 1, concepts.shape, generator=generator, device=concepts.device)
        else:
            step = torch.ones_like(concepts)
        with torch.no_grad():
            return predict(pipeline, noisy(), t, data.texts[others[concepts, step - 1]], context)
