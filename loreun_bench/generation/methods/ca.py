"""Concept ablation: the forgotten concept's prompt is answered as its anchor's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

from loreun_bench.decorators import method
from loreun_bench.generation.unlearning.anchors import Anchored
from loreun_bench.generation.unlearning.method import Context, Count, Data, Parameters

if TYPE_CHECKING:
    from torch import Tensor

    from loreun_bench.generation.pipeline.pipelines import Pipeline


@method("CA", uses={"retain"}, paper="Kumari et al., ICCV 2023", track="generation")
@dataclass(frozen=True)
class ConceptAblation(Anchored):
    """On noisy pictures of the anchor, the prediction for the forgotten concept's prompt becomes that for the anchor's, of
    the model as it is now; no picture of the forgotten concept is read. alpha: the denoising loss of kept pictures (0.25
    is the weight 1 of the authors' diffusers code, whose mask counts the other loss four times). No gradient flows through
    the first token, which begins every text."""

    parameters: Parameters = "keys-and-values"
    epochs: Count = 5
    alpha: Annotated[float, Ge(0)] = 0.0

    def unlearn(self, pipeline: Pipeline, data: Data, context: Context) -> None:
        """In place."""
        from loreun_bench.generation.pipeline.attention import beginning_held

        with beginning_held(pipeline.unet):
            super().unlearn(pipeline, data, context)

    def forget_target(
        self, pipeline: Pipeline, noisy: Callable[[], Tensor], t: Tensor, concepts: Tensor, data: Data, context: Context
    ) -> Tensor:
        """ε_θ(z_t | anchor), detached."""
        import torch

        from loreun_bench.generation.unlearning.gradient import predict

        with torch.no_grad():
            return predict(pipeline, noisy(), t, data.texts[concepts], context)
