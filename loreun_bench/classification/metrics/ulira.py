"""U-LiRA: a likelihood-ratio attack on each forget sample, of unlearned against retrained models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loreun_bench.classification.metrics.mia import ranking
from loreun_bench.decorators import metric

if TYPE_CHECKING:
    from torch import Tensor

    from loreun_bench.classification.scoring.ensembles import Ensembles

NARROWEST = 1e-3  # standard deviation of a margin


@metric(
    "ulira",
    columns={"ulira_acc": "U-LiRA acc.", "ulira_auc": "U-LiRA AUC", "ulira_tpr_1fpr": "U-LiRA TPR@1%FPR"},
    needs={"seeds"},
    seeds=16,
    paper="Hayes et al., 2024 (2403.01218)",
)
def ulira(outputs: Ensembles) -> dict[str, float]:
    """U-LiRA: telling an unlearned from a retrained model by one forget sample's margin, with normal distributions
    fitted to that sample's margins in the models of all other seeds of either kind: accuracy, AUC and TPR at 1% FPR
    over all models and forget samples, in percent; 50, 50 and 1 are chance."""
    own, other = outputs.unlearned["forget"].double(), outputs.retrained["forget"].double()
    unlearned, retrained = fitted(own), fitted(other)
    scores = [likelihood(margins, *unlearned) - likelihood(margins, *retrained) for margins in (own, other)]
    right = ((scores[0] > 0).double().mean() + (scores[1] <= 0).double().mean()) / 2
    auc, tpr = ranking(*(each.flatten().cpu().numpy() for each in scores))
    return {"ulira_acc": 100 * float(right), "ulira_auc": 100 * auc, "ulira_tpr_1fpr": 100 * tpr}


def fitted(margins: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [models, n] of the margins [models, n] of all other models."""
    others = len(margins) - 1
    around = margins.mean(0)
    off = margins - around
    mean = (off.sum(0) - off) / others
    variance = ((off.square().sum(0) - off.square()) - others * mean.square()) / (others - 1)
    return around + mean, variance.clamp(min=NARROWEST**2).sqrt()


def likelihood(margins: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """The normal log density, but for a constant."""
    return -deviation.log() - ((margins - mean) / deviation).square() / 2
