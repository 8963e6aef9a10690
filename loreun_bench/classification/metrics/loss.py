"""Mean loss on each set: the paper's Figure 2."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from loreun_bench.decorators import metric

if TYPE_CHECKING:
    from loreun_bench.classification.scoring.evaluation import Outputs


@metric(
    "loss",
    columns={"forget_loss": "L forget", "retain_loss": "L retain", "test_loss": "L test"},
    unit="nats",
    span=(0, math.inf),
    paper="LoReUn Figure 2",
)
def loss(outputs: Outputs) -> dict[str, float]:
    """L: mean cross entropy in nats on the forget, retain and test set."""
    return {f"{name}_loss": float(outputs.sets[name].losses.mean()) for name in ("forget", "retain", "test")}
