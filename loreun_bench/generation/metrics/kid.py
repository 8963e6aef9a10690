"""KID: a kernel distance that few pictures do not bias."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loreun_bench.generation.optional import fidelity
from loreun_bench.registry import metric

if TYPE_CHECKING:
    from loreun_bench.generation.scene import Scene

SUBSET, SUBSETS = 1000, 100


@metric(
    "kid", columns={"kid": "KID"}, unit="", best="low", paper="Bińkowski et al., 2018", track="generation",
    features="classifier", check=fidelity,
)  # fmt: skip
def kid(scene: Scene) -> dict[str, float]:
    """KID: MMD² to real pictures with a cubic kernel, by torch-fidelity, on the classifier's features, else on
    FID-Inception's; unbiased, so it may be a little below zero; low is better."""
    from loreun_bench.generation.distances import compare, kernel_about

    fidelity()
    compared = compare(scene, scene.classifier or scene.inception(), "kid", 2)
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    n, m = len(compared.pictures), len(compared.reference)
    size = min(n, m, SUBSET)
    subsets = 1 if size == n == m else SUBSETS  # with all pictures of both sides in it every subset is the same
    found = kid_features_to_metric(
        compared.pictures.double(), compared.reference.double(), kid_subsets=subsets, kid_subset_size=size,
        rng_seed=int(scene.settings.get("seed", 0)), verbose=False,
    )  # fmt: skip
    about = kernel_about(compared, scene.settings, scene.teller("kid: bootstrap"))
    scene.details["kid"] = {**about, "subset_size": size, "subsets": subsets}
    return {"kid": float(found[KEY_METRIC_KID_MEAN])}
