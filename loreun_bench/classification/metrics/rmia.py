"""RMIA: membership inference with the retrained models of other seeds as references."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loreun_bench.classification.metrics.mia import ranking
from loreun_bench.decorators import metric

if TYPE_CHECKING:
    from torch import Tensor

    from loreun_bench.classification.scoring.ensembles import Ensembles

GAMMA, OFFLINE = 1.0, 0.3  # the paper's settings of the offline attack
FEWEST = 100  # unseen samples of which one in a hundred can be called a member


@metric(
    "rmia",
    columns={"rmia_auc": "RMIA AUC", "rmia_tpr_1fpr": "RMIA TPR@1%FPR"},
    needs={"seeds"},
    paper="Zarifzadeh, Liu and Shokri, ICML 2024",
)
def rmia(outputs: Ensembles) -> dict[str, float]:
    """RMIA AUC and TPR at 1% FPR: telling forget from test samples in an unlearned model by the offline attack RMIA
    (gamma 1, a 0.3), which asks how many samples of a population gain less by this model, beside the references, which
    are the retrained models of all other seeds; the mean over seeds. The population is every other test sample; of a
    forgotten class both halves are that class's. 50% and 1% are chance, far below is over-unlearning."""
    test = "test_forget" if "test_forget" in outputs.unlearned else "test"
    members, unseen = ((outputs.unlearned[name], outputs.retrained[name]) for name in ("forget", test))
    strangers, population = (gain(*(margins[:, half::2] for margins in unseen)) for half in (0, 1))
    if not strangers.shape[1] or not population.shape[1]:
        return {}
    gains = population.sort(dim=1).values
    scores = [score(each, gains).cpu().numpy() for each in (gain(*members), strangers)]
    found = [ranking(*pair) for pair in zip(*scores, strict=True)]
    auc, tpr = (sum(values) / len(found) for values in zip(*found, strict=True))
    return {"rmia_auc": 100 * auc} | ({"rmia_tpr_1fpr": 100 * tpr} if strangers.shape[1] >= FEWEST else {})


def gain(margins: Tensor, references: Tensor) -> Tensor:
    """p(x|θ)/p(x) of each model and sample [seeds, n], by margins [seeds, n] in fp32; a model's references are the
    retrained models of the other seeds, in which x is unseen, so that p(x) = ((1 + a) mean + 1 - a) / 2."""
    unseen = references.double().sigmoid()
    mean = (unseen.sum(0) - unseen) / (len(unseen) - 1)
    return margins.double().sigmoid() / (((1 + OFFLINE) * mean + 1 - OFFLINE) / 2)


def score(gains: Tensor, population: Tensor) -> Tensor:
    """The share of the population [seeds, m], in order, that each sample's gain [seeds, n] is GAMMA times above."""
    import torch

    return torch.searchsorted(population, (gains / GAMMA).contiguous()).double() / population.shape[1]
