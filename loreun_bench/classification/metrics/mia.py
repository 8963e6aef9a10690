"""Membership inference: can an attacker tell that the forget set was trained on?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from loreun_bench.registry import metric

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from loreun_bench.classification.scoring.evaluation import Outputs, Predictions

LIMIT = 2000  # samples a side: the SVM's time grows with their square, its one threshold settles far earlier


@metric(
    "mia",
    columns={"mia_confidence": "MIA", "mia_m_entropy": "MIA m-entropy", "mia_auc": "MIA AUC", "mia_tpr_1fpr": "TPR@1%FPR"},
    paper="SalUn (ICLR 2024): SVC on confidence",
)
def mia(outputs: Outputs) -> dict[str, float]:
    """MIA: percent of forget samples that an SVM on confidence, fitted on retain against test samples, calls unseen.

    MIA m-entropy: the same on modified entropy (Song and Mittal, 2021).
    MIA AUC and TPR at 1% FPR: telling forget from test samples by confidence in the label; 50% and 1% are chance, far
    below is over-unlearning. For a forgotten class the test samples are that class's. None of them is better for being
    large: the retrained model's value is the aim.
    """
    forget, unseen = outputs.sets["forget"], outputs.sets["test"]
    held_out = outputs.sets["test_forget"] if len(outputs.sets["test_forget"]) else unseen
    auc, tpr = ranking(-forget.losses.numpy(), -held_out.losses.numpy())
    return {
        "mia_confidence": svc_attack(outputs, confidence),
        "mia_m_entropy": svc_attack(outputs, lambda p: modified_entropy(p, outputs.protocol.true_m_entropy)),
        "mia_auc": 100 * auc,
        "mia_tpr_1fpr": 100 * tpr,
    }


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


def svc_attack(outputs: Outputs, feature: Callable[[Predictions], Tensor]) -> float:
    """Percent of the forget set that the SVM calls unseen: its true-negative rate, NaN-free for any finite feature.

    Fitted on the model itself: retain samples are members, test samples are not. `corrected`: equally many of each,
    drawn at random; `paper`: the first retain samples in file order, as many as there are test samples.
    """
    import numpy as np
    from sklearn.svm import SVC

    members, others = (feature(outputs.sets[name]).numpy() for name in ("retain", "test"))
    members, others = chosen(members, others, outputs)
    x = np.concatenate([members, others])[:, None]
    y = np.concatenate([np.ones(len(members)), np.zeros(len(others))])
    attack = SVC(C=3, gamma="auto", kernel="rbf").fit(x, y)
    return 100 * float(1 - attack.predict(feature(outputs.sets["forget"]).numpy()[:, None]).mean())


def chosen(members: np.ndarray, others: np.ndarray, outputs: Outputs) -> tuple[np.ndarray, np.ndarray]:
    """The members and non-members that the attack is fitted on."""
    import numpy as np

    from loreun_bench.harness.seeding import derive

    if not outputs.protocol.balanced_mia:
        return members[: len(others)], others
    size = min(len(members), len(others), LIMIT)
    rng = np.random.default_rng(derive(outputs.seed, "mia"))
    return rng.choice(members, size, replace=False), rng.choice(others, size, replace=False)


def ranking(forget: np.ndarray, held_out: np.ndarray) -> tuple[float, float]:
    """(AUC, true-positive rate at 1% false positives) of calling high scores members."""
    import numpy as np
    from sklearn.metrics import roc_auc_score, roc_curve

    y = np.concatenate([np.ones(len(forget)), np.zeros(len(held_out))])
    scores = np.concatenate([forget, held_out])
    false, true, _ = roc_curve(y, scores)
    return float(roc_auc_score(y, scores)), float(true[false <= 0.01].max())
