"""The model itself, for metrics that look at more than its pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from loreun_bench.generation.pipeline.sampling import Request, denoise, first_latents

if TYPE_CHECKING:
    from loreun_bench.generation.pipeline.pipelines import Pipeline
    from loreun_bench.generation.scoring.classifiers import Classifier
    from loreun_bench.generation.unlearning.method import Context, Data


@dataclass(frozen=True)
class Model:
    """The pipeline that is measured, and what surrounded it.

    original: the pipeline as it came. data: the training pictures of forget and retain set, with the embedded prompts.
    context: makes a context of the evaluation's seed, whose streams begin anew. asked: the requests of the forgotten
    classes' pictures; steps, batch_size: how these were sampled.
    """

    pipeline: Pipeline
    original: Pipeline
    data: Data
    context: Callable[[], Context]
    asked: Sequence[Request]
    steps: int
    batch_size: int

    def with_denoiser(self, unet: nn.Module) -> Pipeline:
        """The pipeline with another denoiser."""
        return replace(self.pipeline, unet=unet)

    def recognised(
        self, classifier: Classifier, pipeline: Pipeline | None = None, texts: Mapping[int, Tensor] | None = None
    ) -> tuple[int, int]:
        """(hits, n): how many of the n pictures asked for of forgotten classes the classifier recognises as what they were
        asked to be, made anew from the same first latents by `pipeline`, which is by default the one that is measured, with
        `texts` [length, width] by class in the place of the prompts'."""
        pipeline, hits = pipeline or self.pipeline, 0
        for start in range(0, len(self.asked), self.batch_size):
            part = self.asked[start : start + self.batch_size]
            text = torch.stack([texts[_label(r)] for r in part]) if texts else pipeline.embed([r.prompt for r in part])
            guidance = torch.tensor([r.guidance for r in part], device=pipeline.device)
            first, precision = first_latents(pipeline, part), self.context().precision
            latents = denoise(pipeline, first, text, guidance, self.steps, precision=precision)
            pixels = pipeline.decode(latents).permute(0, 3, 1, 2).float() / 255
            hits += int((classifier.predict(pixels).cpu() == torch.tensor([_label(r) for r in part])).sum())
        return hits, len(self.asked)


def _label(request: Request) -> int:
    assert request.label is not None  # a request of a class
    return request.label
