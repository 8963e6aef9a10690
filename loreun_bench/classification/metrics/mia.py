"""Membership inference: can an attacker tell that the forget set was trained on?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loreun_bench.decorators import metric
from loreun_bench.harness.measuring import Measured

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from loreun_bench.classification.scoring.evaluation import Outputs, Predictions

CHANCE = 0.01  # of the Kolmogorov-Smirnov test, above which members and non-members do not differ
LEAST_ACC = 51.0  # percent; below it the best threshold wanders, however many samples show that there is one


@metric(
    "mia",
    columns={
        "mia_confidence": "MIA", "mia_m_entropy": "MIA m-entropy", "mia_auc": "MIA AUC", "mia_tpr_1fpr": "TPR@1%FPR",
        "mia_attack_acc": "MIA attack", "mia_m_entropy_attack_acc": "m-entropy attack",
    },
    paper="SalUn (ICLR 2024): SVC on confidence; thresholds: Song and Mittal (2021)",
)  # fmt: skip
def mia(outputs: Outputs) -> Measured:
    """MIA: percent of forget samples that an attack on confidence in the label, fitted on retain against test samples, calls
    unseen. The attack is the threshold of the best class-balanced accuracy over all of them (protocol paper: an SVM).

    MIA attack: that accuracy in percent, 50 is chance. An attack at chance has an MIA that says nothing: a one-sided
    Kolmogorov-Smirnov test finds no difference at 1%, or it is right on less than 51%.
    MIA m-entropy: the same on modified entropy (Song and Mittal, 2021).
    MIA AUC and TPR at 1% FPR: telling forget from test samples by confidence in the label; 50% and 1% are chance, far
    below is over-unlearning. For a forgotten class the test samples are that class's. None of them is better for being
    large: the retrained model's value is the aim.
    """
    forget, unseen = outputs.sets["forget"], outputs.sets["test"]
    held_out = outputs.sets["test_forget"] if len(outputs.sets["test_forget"]) else unseen
    auc, tpr = ranking(-forget.losses.numpy(), -held_out.losses.numpy())
    attacks = {
        "mia_confidence": attack(outputs, confidence, "mia_attack_acc"),
        "mia_m_entropy": attack(
            outputs, lambda p: -modified_entropy(p, outputs.protocol.true_m_entropy), "mia_m_entropy_attack_acc"
        ),
    }
    values = {"mia_auc": 100 * auc, "mia_tpr_1fpr": 100 * tpr}
    for key, found in attacks.items():
        values |= {key: 100 * found.unseen / len(forget), found.accuracy_key: 100 * found.accuracy}
    # no counts: an exact interval would take the threshold for given, which moves from model to model
    return Measured(values, uninformative={key for key, found in attacks.items() if found.at_chance})


def confidence(predictions: Predictions) -> Tensor:
    """The probability of the label [n]."""
    return (-predictions.losses).exp()


def modified_entropy(predictions: Predictions, true: bool = True) -> Tensor:
    """Song and Mittal's modified entropy [n]: -(1-p_y) log p_y - Σ_{k≠y} p_k log(1-p_k).

    true=False repeats the reference code's indexing, which reads the columns of every row's label and the log of p in
    place of 1-p, so that the value does not depend on the sample's own label (protocol `paper`).
    """
    import torch

    logp = predictions.log_probabilities.clamp_min(-69)
    p = logp.exp()
    rest = (1 - p).clamp_min(1e-30)
    label = predictions.labels.unsqueeze(1)
    if true:
        q = (-p * rest.log()).scatter(1, label, (-rest * logp).gather(1, label))
    else:
        columns = torch.zeros(p.shape[1], dtype=torch.bool)
        columns[predictions.labels] = True
        q = torch.where(columns, -rest * logp, -p * logp)
    return q.sum(1)


@dataclass(frozen=True)
class Attack:
    """What an attack says of the forget set: how many of it are `unseen`; how good it is, class-balanced, as a share, on the
    samples that it was fitted on, and where that is told; whether that is chance."""

    unseen: int
    accuracy: float
    accuracy_key: str
    at_chance: bool


def attack(outputs: Outputs, score: Callable[[Predictions], Tensor], accuracy_key: str) -> Attack:
    """The attack on a score [n] that is high for members: retain samples are members, test samples are not."""
    members, others, forget = (score(outputs.sets[name]).numpy() for name in ("retain", "test", "forget"))
    if outputs.protocol.balanced_mia:
        threshold, accuracy = best_threshold(members, others)
        unseen = int((forget < threshold).sum())
    else:
        members = members[: len(others)]
        unseen, accuracy = svc(members, others, forget)
    return Attack(unseen, accuracy, accuracy_key, at_chance(accuracy, members, others))


def best_threshold(members: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """(threshold, accuracy): calling a score of at least the threshold a member is right most often, both sides weighing one
    half, so that it depends on neither how many samples there are nor their ratio. O(n log n), exact.

    The threshold lies midway between two neighbouring scores; of several that are equally good the middle one is taken (the
    lower of two). Scores that are equal are never parted.
    """
    import numpy as np

    scores = np.unique(np.concatenate([members, others]))
    below = [np.searchsorted(np.sort(side), scores, side="right") for side in (others, members)]
    gain = below[0] * len(members) - below[1] * len(others)  # whole numbers: ties are ties
    gain = np.concatenate([[0], gain])  # a threshold below all scores: everything is a member
    best = np.flatnonzero(gain == gain.max())
    cut = int(best[(len(best) - 1) // 2])
    accuracy = 0.5 + float(gain[cut]) / (2 * len(members) * len(others))
    if cut in (0, len(scores)):
        return (-np.inf if cut == 0 else np.inf), accuracy
    low, high = scores[cut - 1], scores[cut]
    middle = low + (high - low) / 2
    return float(middle if middle > low else high), accuracy


def svc(members: np.ndarray, others: np.ndarray, forget: np.ndarray) -> tuple[int, float]:
    """The reference code's attack: (how many of the forget samples an SVM calls unseen, its class-balanced accuracy)."""
    import numpy as np
    from sklearn.svm import SVC

    x = np.concatenate([members, others])[:, None]
    y = np.concatenate([np.ones(len(members)), np.zeros(len(others))])
    fitted = SVC(C=3, gamma="auto", kernel="rbf").fit(x, y)
    called = fitted.predict(x)
    accuracy = (called[: len(members)].mean() + 1 - called[len(members) :].mean()) / 2
    return int((fitted.predict(forget[:, None]) == 0).sum()), float(accuracy)


def at_chance(accuracy: float, members: np.ndarray, others: np.ndarray) -> bool:
    """Whether an attack of this class-balanced accuracy says nothing.

    The best threshold's accuracy is 1/2 + D/2 with D the one-sided Kolmogorov-Smirnov distance, so its p-value is that
    test's. Simulated pairs of retrained models whose attack passes it have MIAs that part by less than 18 points (standard
    deviation); with 50 000 samples it lets pass attacks of 50.8 %, whose MIAs part by 17, hence the second bound.
    """
    from scipy.stats import ks_2samp

    test = ks_2samp(others, members, alternative="greater", method="asymp")
    return bool(test.pvalue > CHANCE) or 100 * accuracy < LEAST_ACC


def ranking(forget: np.ndarray, held_out: np.ndarray) -> tuple[float, float]:
    """(AUC, true-positive rate at 1% false positives) of calling high scores members."""
    import numpy as np
    from sklearn.metrics import roc_auc_score, roc_curve

    y = np.concatenate([np.ones(len(forget)), np.zeros(len(held_out))])
    scores = np.concatenate([forget, held_out])
    false, true, _ = roc_curve(y, scores)
    return float(roc_auc_score(y, scores)), float(true[false <= 0.01].max())
