"""FID proper."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from loreun_bench.decorators import metric
from loreun_bench.generation.scoring.optional import fidelity

if TYPE_CHECKING:
    from loreun_bench.generation.scene import Planned, Scene


def _check(planned: Planned) -> None:
    from loreun_bench.generation.scoring.distances import LEAST

    planned.need_classes("fid", LEAST)
    planned.need_weights()
    fidelity()


@metric(
    "fid", columns={"fid": "FID"}, unit="", best="low", paper="Heusel et al., 2017", track="generation",
    features="inception", check=_check, span=(0, math.inf),
)  # fmt: skip
def fid(scene: Scene) -> dict[str, float]:
    """FID: Fréchet distance to real pictures on FID-Inception's 2048 features, by torch-fidelity; low is better."""
    from loreun_bench.generation.scoring.distances import LEAST, compare, frechet_about, need

    need(scene, "fid", LEAST)
    compared = compare(scene, scene.inception(), "fid", LEAST)
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

    sides = [fid_features_to_statistics(side.double()) for side in (compared.pictures, compared.reference)]
    value = float(fid_statistics_to_metric(*sides, verbose=False)[KEY_METRIC_FID])
    tell = scene.teller("fid: bootstrap")
    scene.details["fid"] = frechet_about(compared, value, scene.settings, tell)
    return {"fid": value}
