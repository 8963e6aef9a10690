"""95 % intervals of distances between pictures."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from loreun_bench.harness.seeding import derive
from loreun_bench.harness.shares import LEVEL


def percentiles(values: Tensor) -> list[float]:
    """The middle 95 % of `values` [R]."""
    ends = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64)
    return [float(v) for v in values.double().quantile(ends)]


def drawn(n: int, resamples: int, seed: int, side: str) -> Tensor:
    """How often each of n pictures is drawn in each of R bootstrap resamples: counts [R, n] fp64, rows add up to n."""
    counts = np.random.default_rng(derive(seed, "bootstrap", side)).multinomial(n, [1 / n] * n, size=resamples)
    return torch.from_numpy(counts).double()
