"""Fréchet distance on a classifier's features."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from loreun_bench.decorators import metric

if TYPE_CHECKING:
    from loreun_bench.generation.scene import Planned, Scene


def _check(planned: Planned) -> None:
    from loreun_bench.generation.scoring.distances import LEAST

    planned.need_classes("fd", LEAST)


@metric(
    "fd", columns={"fd": "FD"}, unit="", best="low", span=(0, math.inf), track="generation", features="classifier",
    check=_check,
)  # fmt: skip
def fd(scene: Scene) -> dict[str, float]:
    """FD: Fréchet distance to real pictures on the classifier's features, without the forgotten class; low is better."""
    from loreun_bench.generation.scoring.distances import LEAST, compare, frechet, frechet_about

    compared = compare(scene, scene.need_classifier("fd"), "fd", LEAST)
    value = frechet(compared.pictures, compared.reference)
    tell = scene.teller("fd: bootstrap")
    scene.details["fd"] = frechet_about(compared, value, scene.settings, tell)
    return {"fd": value}
