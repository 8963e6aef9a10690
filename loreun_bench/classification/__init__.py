"""The classification track. What plug-ins are written with is imported from here, whichever room it lies in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loreun_bench.lazy import lazily

if TYPE_CHECKING:
    from loreun_bench.classification.data.arrays import Arrays
    from loreun_bench.classification.scoring.ensembles import Ensembles
    from loreun_bench.classification.scoring.evaluation import Outputs, Predictions
    from loreun_bench.classification.unlearning.gradient import GradientMethod
    from loreun_bench.classification.unlearning.method import Context, Data, ImageSet, Method
    from loreun_bench.harness.measuring import Measured
    from loreun_bench.weightings import Phase

__all__ = [
    "Arrays", "Context", "Data", "Ensembles", "GradientMethod", "ImageSet", "Measured", "Method", "Outputs", "Phase",
    "Predictions",
]  # fmt: skip
_WHERE = {
    "Arrays": "data.arrays", "Ensembles": "scoring.ensembles",
    "Outputs": "scoring.evaluation", "Predictions": "scoring.evaluation",
    "GradientMethod": "unlearning.gradient",
    "Context": "unlearning.method", "Data": "unlearning.method", "ImageSet": "unlearning.method",
    "Method": "unlearning.method", "Measured": ".harness.measuring", "Phase": ".weightings",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    return lazily(__name__, _WHERE, name)
