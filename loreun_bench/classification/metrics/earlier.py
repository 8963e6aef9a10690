"""What came back of what earlier requests forgot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loreun_bench.decorators import metric

if TYPE_CHECKING:
    from loreun_bench.classification.scoring.evaluation import Outputs


@metric("earlier", columns={"earlier_acc": "earlier"}, paper="SAFER, 2026 (forgetting reversal)")
def earlier(outputs: Outputs) -> dict[str, float]:
    """earlier: accuracy in percent on what the requests before this one forgot, by the labels that were trained on; what
    is above Retrain's came back, or never went. Only where requests come one after the other (scenario `sequence`)."""
    before = outputs.sets["earlier"]
    return {"earlier_acc": before.accuracy} if len(before) else {}
