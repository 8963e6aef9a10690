"""Shares of what was counted."""

from __future__ import annotations

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
