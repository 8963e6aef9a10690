"""Selective amnesia: learn another picture for the concept's prompt, and hold what mattered to the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge

from loreun_bench.decorators import method
from loreun_bench.generation.unlearning.anchors import Anchored
from loreun_bench.generation.unlearning.method import Context, Count, Data

if TYPE_CHECKING:
    from torch import Tensor, nn

    from loreun_bench.generation.pipeline.pipelines import Pipeline


@method("SA", uses={"retain"}, paper="Heng & Soh, NeurIPS 2023", track="generation")
@dataclass(frozen=True)
class SelectiveAmnesia(Anchored):
    """Denoise pictures of the anchor under the forgotten concept's prompt, and kept pictures under their own, with
    `elasticity` times Σ F (θ - θ°)²: F, the mean over `fisher_pictures` kept pictures of the squared gradient of the
    denoising loss summed over all timesteps, says which weights the rest needs. F counts in the cost.

    The sum is taken from `fisher_timesteps` random ones, which makes F larger, by about a half for ten. The authors sample
    the pictures that are kept from the original model; here they are the data's own.
    """

    elasticity: Annotated[float, Ge(0)] = 50.0
    fisher_pictures: Count = 200
    fisher_timesteps: Count = 10

    def prepare(
        self, pipeline: Pipeline, parameters: Mapping[str, nn.Parameter], data: Data, context: Context
    ) -> Any:
        """(F, θ°), a tensor a parameter."""
        import torch

        from loreun_bench.generation.unlearning.gradient import denoising_loss, noised
        from loreun_bench.training.importance import mean_squared_gradients

        def loss(positions: Tensor) -> Tensor:
            batch = noised(pipeline, data.retain, positions, context, "fisher")
            context.meter.backward_samples += len(positions)
            return pipeline.timesteps * denoising_loss(pipeline, batch, data.texts[batch.concepts], context)

        weights = list(parameters.values())
        order = torch.randperm(len(data.retain), generator=context.stream("order", "fisher", device="cpu"))
        each = (position.expand(self.fisher_timesteps) for position in order[: self.fisher_pictures].split(1))
        needed = mean_squared_gradients(weights, each, loss)
        return needed, [weight.detach().clone() for weight in weights]

    def forget_target(
        self, pipeline: Pipeline, noisy: Callable[[], Tensor], t: Tensor, concepts: Tensor, data: Data, context: Context
    ) -> None:
        """The anchor's pictures are denoised as they are."""
        return

    def combined(
        self, forget: Tensor, retain: Tensor | None, parameters: Mapping[str, nn.Parameter], context: Context
    ) -> Tensor:
        """With the elastic term."""
        import torch

        needed, before = context.prepared
        held = [(f * (p - old).square()).sum() for f, p, old in zip(needed, parameters.values(), before, strict=True)]
        return super().combined(forget, retain, parameters, context) + self.elasticity * torch.stack(held).sum()
