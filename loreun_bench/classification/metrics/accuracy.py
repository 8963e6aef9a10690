"""Accuracy on every set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loreun_bench.decorators import metric
from loreun_bench.harness.measuring import Measured

if TYPE_CHECKING:
    from loreun_bench.classification.scoring.evaluation import Outputs


@metric(
    "accuracy",
    columns={
        "forget_acc": "UA", "retain_acc": "RA", "test_acc": "TA", "test_acc_all": "TA all", "val_acc": "VA",
        "forget_true_acc": "forget true",
    },
    paper="LoReUn section 5; SalUn prints UA = 100 - forget accuracy",
)  # fmt: skip
def accuracy(outputs: Outputs) -> Measured:
    """UA, RA, TA: accuracy in percent on the forget, retain and test set, by the labels that were trained on.

    TA leaves out the test images of a class that is forgotten; "TA all" has them. "forget true": the forget samples by
    their real labels, which differ from the trained ones in the mislabelled scenario.
    """
    sets = outputs.sets
    test, gone, forget = sets["test"], sets["test_forget"], sets["forget"]
    hits = len(test) * test.accuracy + (len(gone) * gone.accuracy if len(gone) else 0.0)
    truly = forget.logits.argmax(1) == outputs.true_labels
    values = {
        "forget_acc": forget.accuracy,
        "retain_acc": sets["retain"].accuracy,
        "test_acc": test.accuracy,
        "test_acc_all": hits / (len(test) + len(gone)),
        "val_acc": sets["validation"].accuracy,
        "forget_true_acc": 100 * float(truly.double().mean()),
    }
    counts = {
        "forget_acc": [forget.hits, len(forget)],
        "retain_acc": [sets["retain"].hits, len(sets["retain"])],
        "test_acc": [test.hits, len(test)],
        "test_acc_all": [test.hits + gone.hits, len(test) + len(gone)],
        "val_acc": [sets["validation"].hits, len(sets["validation"])],
        "forget_true_acc": [int(truly.sum()), len(forget)],
    }
    there = [key for key, (_, n) in counts.items() if n]  # nothing is said of an empty set
    return Measured({key: values[key] for key in there}, {key: counts[key] for key in there})
