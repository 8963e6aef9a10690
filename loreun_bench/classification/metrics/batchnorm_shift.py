"""How far unlearning moved the batch-norm statistics, which no saliency mask covers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from loreun_bench.decorators import metric

if TYPE_CHECKING:
    from loreun_bench.classification.scoring.evaluation import Outputs


@metric("batchnorm-shift", columns={"batchnorm_shift": "BN shift"}, unit="", span=(0, math.inf))
def batchnorm_shift(outputs: Outputs) -> dict[str, float]:
    """BN shift: relative change of the batch-norm running means from the original model, in the 2-norm."""
    means = [name for name in outputs.original_buffers if name.endswith("running_mean")]
    if not means:
        return {}
    before = sum(float(outputs.original_buffers[name].double().square().sum()) for name in means)
    moved = sum(
        float((outputs.buffers[name].double() - outputs.original_buffers[name].double()).square().sum()) for name in means
    )
    return {"batchnorm_shift": (moved / max(before, 1e-30)) ** 0.5}
