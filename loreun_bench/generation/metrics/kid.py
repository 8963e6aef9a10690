"""KID: a kernel distance that few pictures do not bias."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loreun_bench.decorators import metric
from loreun_bench.generation.scoring.optional import fidelity

if TYPE_CHECKING:
    from loreun_bench.generation.scene import Planned, Scene
    from loreun_bench.generation.scoring.distances import Compared

SUBSET, SUBSETS = 1000, 100


def _check(planned: Planned) -> None:
    planned.need_classes("kid", 2)
    planned.need_weights()
    fidelity()


@metric(
    "kid", columns={"kid": "KID"}, unit="", best="low", paper="Bińkowski et al., 2018", track="generation",
    features="classifier", check=_check,
)  # fmt: skip
def kid(scene: Scene) -> dict[str, float]:
    """KID: MMD² to real pictures with a cubic kernel, on the classifier's features, else on FID-Inception's; unbiased, so
    chance may take it a little below zero, and zero is best. By torch-fidelity; where as many pictures of each class were
    made, by the same estimator with a class's pairs weighted for that, which would lower it otherwise."""
    from loreun_bench.generation.scoring.distances import compare, kernel_about, kernel_value

    fidelity()
    compared = compare(scene, scene.classifier or scene.inception(), "kid", 2)
    about = kernel_about(compared, scene.settings, scene.teller("kid: bootstrap"))
    value, how = (kernel_value(compared), {"by_class": True}) if compared.classes else _subsets(compared, scene)
    scene.details["kid"] = about | how
    return {"kid": value}


def _subsets(compared: Compared, scene: Scene) -> tuple[float, dict[str, Any]]:
    """torch-fidelity's mean over random subsets."""
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    n, m = len(compared.pictures), len(compared.reference)
    size = min(n, m, SUBSET)
    subsets = 1 if size == n == m else SUBSETS  # with all pictures of both sides in it every subset is the same
    found = kid_features_to_metric(
        compared.pictures.double(), compared.reference.double(), kid_subsets=subsets, kid_subset_size=size,
        rng_seed=int(scene.settings.get("seed", 0)), verbose=False,
    )  # fmt: skip
    return float(found[KEY_METRIC_KID_MEAN]), {"subset_size": size, "subsets": subsets}
