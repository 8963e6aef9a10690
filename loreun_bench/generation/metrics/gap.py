"""What unlearning did to the denoising loss."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from loreun_bench.decorators import metric

if TYPE_CHECKING:
    from torch import Tensor

    from loreun_bench.generation.data.latents import LatentSet
    from loreun_bench.generation.pipeline.pipelines import Pipeline
    from loreun_bench.generation.scene import Scene
    from loreun_bench.generation.scoring.model import Model

POINTS, PICTURES = 8, 128


@metric(
    "gap",
    columns={"forget_gap": "forget gap", "kept_gap": "kept gap"},
    best={"forget_gap": "high", "kept_gap": "low"},
    needs={"model", "data"},
    span=(-100, math.inf),
    paper="of LoReUn's ℓ_t and ℓ°_t (section 4)",
    track="generation",
)
def gap(scene: Scene) -> dict[str, float]:
    """forget gap, kept gap: by how many percent the denoising loss of training pictures is above the original model's, with
    the same noise, the mean over timesteps from 0 to the last; 0 where nothing changed. Each one stands in the details."""
    from loreun_bench.generation.unlearning.curve import timesteps

    model = scene.need_model("gap")
    steps = timesteps("interpolated", POINTS, model.pipeline.timesteps)
    values, details = {}, {}
    for key, pictures in (("forget_gap", model.data.forget), ("kept_gap", model.data.retain)):
        if len(pictures):
            now, before = (_losses(model, each, pictures, steps) for each in (model.pipeline, model.original))
            ratios = 100 * (now / before - 1)
            values[key], details[key] = float(ratios.mean()), [round(float(r), 3) for r in ratios]
    scene.details["gap"] = {"timesteps": steps} | details
    return values


def _losses(model: Model, pipeline: Pipeline, pictures: LatentSet, steps: list[int]) -> Tensor:
    """The mean losses [len(steps)] of some pictures, with noise that is the same for every model."""
    from loreun_bench.generation.unlearning.curve import measure

    return measure(pipeline, pictures, model.data.texts, steps, PICTURES, model.context()).mean(1).double().cpu()
