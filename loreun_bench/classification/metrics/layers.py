"""How far unlearning moved the weights, layer by layer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from loreun_bench.decorators import metric

if TYPE_CHECKING:
    from loreun_bench.classification.scoring.evaluation import Outputs


@metric(
    "layer-distance",
    columns={"layer_distance": "layer distance"},
    unit="",
    best="retrain",
    needs={"model", "original"},
    span=(0, math.inf),
    paper="Tarun et al., TNNLS 2023",
)
def layer_distance(outputs: Outputs) -> dict[str, float]:
    """layer distance: the mean over weights with two or more dimensions of ||W - W°|| / ||W°||, W° the original's; Retrain's
    comes from other initial weights, so that its value is that of a model which has nothing to do with the original."""
    assert outputs.model is not None
    weights = {name: w.detach().cpu().double() for name, w in outputs.model.named_parameters() if w.dim() > 1}
    before = {name: outputs.original_weights[name].double() for name in weights}
    moved = [float((w - before[name]).norm() / before[name].norm().clamp(min=1e-30)) for name, w in weights.items()]
    return {"layer_distance": sum(moved) / len(moved)} if moved else {}
