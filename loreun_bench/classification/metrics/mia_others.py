"""Membership inference by what other papers attack with: entropy, and whether the answer is right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loreun_bench.classification.metrics.mia import attack
from loreun_bench.decorators import metric
from loreun_bench.harness.measuring import Measured

if TYPE_CHECKING:
    from torch import Tensor

    from loreun_bench.classification.scoring.evaluation import Outputs, Predictions


@metric(
    "mia-others",
    columns={
        "mia_entropy": "MIA entropy", "mia_correctness": "MIA correct", "mia_entropy_attack_acc": "entropy attack",
        "mia_correctness_attack_acc": "correct attack",
    },
    paper="Song and Mittal, USENIX Security 2021; the entropy attack is that of Bad-T, SSD and their like",
)  # fmt: skip
def mia_others(outputs: Outputs) -> Measured:
    """MIA entropy, MIA correct: as MIA, by the entropy of the prediction, which knows no label, and by whether it is right.
    entropy attack, correct attack: how often each is right of retain and test samples, in percent, 50 is chance."""
    found = {
        "mia_entropy": attack(outputs, lambda p: -entropy(p), "mia_entropy_attack_acc"),
        "mia_correctness": attack(outputs, right, "mia_correctness_attack_acc"),
    }
    values = {key: 100 * each.unseen / len(outputs.sets["forget"]) for key, each in found.items()}
    values |= {each.accuracy_key: 100 * each.accuracy for each in found.values()}
    return Measured(values, uninformative={key for key, each in found.items() if each.at_chance})


def entropy(predictions: Predictions) -> Tensor:
    """Of the predicted distribution, in nats [n]."""
    logp = predictions.log_probabilities
    rows: Tensor = -(logp.exp() * logp.clamp(min=-1e30)).sum(1)
    return rows


def right(predictions: Predictions) -> Tensor:
    """1 where the prediction is the label, else 0 [n]."""
    return (predictions.logits.argmax(1) == predictions.labels).double()
