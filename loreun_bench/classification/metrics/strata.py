"""Whom a method forgets: the forget set by how well the original model knew its samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loreun_bench.decorators import metric
from loreun_bench.harness.measuring import Measured

if TYPE_CHECKING:
    from loreun_bench.classification.scoring.evaluation import Outputs

QUARTILES = 4


@metric(
    "strata",
    columns={f"forget_acc_q{k}": f"UA q{k}" for k in range(1, QUARTILES + 1)},
    needs={"losses"},
    paper="LoReUn's claim that a sample's loss tells how hard it is to forget",
)
def strata(outputs: Outputs) -> Measured:
    """UA q1 to UA q4: the accuracy on each quarter of the forget set, in percent, by the original model's loss on it:
    q1 holds the samples on which that was least. Quarters differ by one sample at most; of a forget set of fewer than
    four samples the last are left out."""
    found = outputs.sets["forget"]
    right = found.logits.argmax(1) == found.labels
    parts = outputs.original_losses.argsort(stable=True).tensor_split(QUARTILES)
    counts = {f"forget_acc_q{k}": [int(right[part].sum()), len(part)] for k, part in enumerate(parts, 1) if len(part)}
    return Measured({key: 100 * hits / n for key, (hits, n) in counts.items()}, counts)
