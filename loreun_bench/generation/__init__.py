"""The generation track: text-to-image diffusion. What plug-ins are written with is imported from here, whichever room it
lies in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loreun_bench.lazy import lazily

if TYPE_CHECKING:
    from loreun_bench.generation.pipeline.pipelines import Pipeline
    from loreun_bench.generation.scenarios import Concepts
    from loreun_bench.generation.scene import Scene
    from loreun_bench.generation.scoring.pictures import Pictures
    from loreun_bench.generation.unlearning.gradient import GradientMethod, open_parameters, predict, trainable
    from loreun_bench.generation.unlearning.method import Context, Data, Method
    from loreun_bench.harness.measuring import Measured
    from loreun_bench.weightings import Phase

__all__ = [
    "Concepts", "Context", "Data", "GradientMethod", "Measured", "Method", "Phase", "Pictures", "Pipeline", "Scene",
    "open_parameters", "predict", "trainable",
]  # fmt: skip
_WHERE = {
    "Concepts": "scenarios",
    "Pipeline": "pipeline.pipelines", "Scene": "scene", "Pictures": "scoring.pictures",
    "GradientMethod": "unlearning.gradient", "open_parameters": "unlearning.gradient", "predict": "unlearning.gradient",
    "trainable": "unlearning.gradient",
    "Context": "unlearning.method", "Data": "unlearning.method", "Method": "unlearning.method",
    "Measured": ".harness.measuring", "Phase": ".weightings",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    return lazily(__name__, _WHERE, name)
