"""95 % intervals of what metrics of pictures give."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from loreun_bench.harness.seeding import derive

LEVEL = 0.95


def clopper_pearson(hits: int, n: int) -> list[float]:
    """The exact 95 % interval, in percent, of a share of which `hits` in `n` were seen; [0, 100] for n = 0.

    Zero of 500 is [0, 0.74]: no hit is not a share of zero.
    """
    from scipy.stats import binomtest

    if n == 0:
        return [0.0, 100.0]
    found = binomtest(hits, n).proportion_ci(LEVEL, method="exact")
    return [round(100 * float(found.low), 4), round(100 * float(found.high), 4)]


def percentiles(values: Tensor) -> list[float]:
    """The middle 95 % of `values` [R]."""
    ends = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64)
    return [float(v) for v in values.double().quantile(ends)]


def drawn(n: int, resamples: int, seed: int, side: str) -> Tensor:
    """How often each of n pictures is drawn in each of R bootstrap resamples: counts [R, n] fp64, rows add up to n."""
    counts = np.random.default_rng(derive(seed, "bootstrap", side)).multinomial(n, [1 / n] * n, size=resamples)
    return torch.from_numpy(counts).double()
