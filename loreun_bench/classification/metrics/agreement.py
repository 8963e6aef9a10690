"""How alike the unlearned and the retrained model are, sample by sample."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from loreun_bench.decorators import metric
from loreun_bench.harness.measuring import Measured

if TYPE_CHECKING:
    from torch import Tensor

    from loreun_bench.classification.scoring.evaluation import Outputs


@metric(
    "agreement",
    columns={"agreement_forget": "agree forget", "agreement_test": "agree test"},
    best="high",
    needs={"retrain"},
    paper="Cao & Yang, S&P 2015 (completeness)",
)
def agreement(outputs: Outputs) -> Measured:
    """agree: percent of forget and of test samples that the model and Retrain put into the same class, right or wrong."""
    counts = {}
    for name in ("forget", "test"):
        own, other = outputs.sets[name].logits, outputs.retrain[name].logits
        counts[f"agreement_{name}"] = [int((own.argmax(1) == other.argmax(1)).sum()), len(own)]
    counts = {key: pair for key, pair in counts.items() if pair[1]}
    return Measured({key: 100 * hits / n for key, (hits, n) in counts.items()}, counts)


@metric(
    "output-distance",
    columns={"activation_distance": "activation distance", "js_divergence": "JS divergence"},
    unit="",
    best="low",
    needs={"retrain"},
    span=(0, math.sqrt(2)),
    paper="Golatkar et al., ECCV 2020; Lin 1991",
)
def output_distance(outputs: Outputs) -> dict[str, float]:
    """activation distance: mean 2-norm of the difference of the model's and Retrain's probabilities on the forget set, 0 to
    √2. JS divergence: the mean Jensen-Shannon divergence of the two in bits, 0 to 1 (what several unlearning repositories
    print under this name is the divergence from the mixture, and has no such bound)."""
    own, other = (sets["forget"].log_probabilities for sets in (outputs.sets, outputs.retrain))
    distance = (own.exp() - other.exp()).square().sum(1).sqrt()
    return {"activation_distance": float(distance.mean()), "js_divergence": float(jensen_shannon(own, other).mean())}


def jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """Of each row's two distributions, given as log probabilities [n, C], in bits [n]."""
    import torch

    mixture = torch.logaddexp(p, q) - math.log(2)
    rows: Tensor = (p.exp() * (p - mixture) + q.exp() * (q - mixture)).sum(1) / 2
    return rows.clamp(min=0) / math.log(2)
