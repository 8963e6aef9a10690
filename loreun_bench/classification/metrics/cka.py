"""Whether the features are those of a retrained model: logits may look alike while features keep the class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loreun_bench.decorators import metric

if TYPE_CHECKING:
    from torch import Tensor

    from loreun_bench.classification.scoring.evaluation import Outputs


@metric(
    "cka",
    columns={"cka_forget": "CKA forget", "cka_test": "CKA test"},
    unit="",
    best="high",
    needs={"retrain"},
    span=(0, 1),
    paper="Kornblith et al., ICML 2019",
)
def cka(outputs: Outputs) -> dict[str, float]:
    """CKA: linear centred kernel alignment of the features before the classifier with Retrain's, on the forget and on the
    test set; 1 is the same up to rotation and scale. Features of a network without a last linear layer, or that passes a
    picture through it more than once, are its logits."""
    pairs = {name: (outputs.sets[name].features, outputs.retrain[name].features) for name in ("forget", "test")}
    return {f"cka_{name}": linear_cka(*pair) for name, pair in pairs.items() if len(pair[0]) > 1}


def linear_cka(x: Tensor, y: Tensor) -> float:
    """||Yᵀ X||² / (||Xᵀ X|| ||Yᵀ Y||), Frobenius, of centred features [n, d] and [n, e]; in the smaller of d and n."""
    x, y = (each.double() - each.double().mean(0) for each in (x, y))
    if len(x) < max(x.shape[1], y.shape[1]):
        kernels = x @ x.T, y @ y.T
        found = (kernels[0] * kernels[1]).sum() / (kernels[0].norm() * kernels[1].norm())
    else:
        found = (y.T @ x).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm())
    return float(found.clamp(0, 1))
