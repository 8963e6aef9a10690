"""What forgetting costs the class that it costs most."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loreun_bench.decorators import metric
from loreun_bench.harness.measuring import Measured

if TYPE_CHECKING:
    from loreun_bench.generation.scene import Scene


@metric(
    "neighbour",
    columns={"worst_kept": "worst kept"},
    best="high",
    paper="EraseBench; SEE, arXiv 2508.15124 (neighbours suffer first)",
    track="generation",
    about_classes=True,
)
def neighbour(scene: Scene) -> Measured:
    """worst kept: percent of the pictures of one kept class that the classifier recognises, of the class that fares worst;
    a mean over kept classes hides it."""
    of, found = scene.recognised(scene.need_classifier("neighbour"))
    kept = [number for number in of[of >= 0].unique().tolist() if number not in scene.forget]
    counts = [[int((found[of == number] == number).sum()), int((of == number).sum())] for number in kept]
    if not counts:
        return Measured({})
    hits, n = min(counts, key=lambda pair: pair[0] / pair[1])
    return Measured({"worst_kept": 100 * hits / n}, {"worst_kept": [hits, n]})
