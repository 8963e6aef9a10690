"""Shares of what was counted."""

from __future__ import annotations

LEVEL = 0.95


def clopper_pearson(hits: int, n: int) -> list[float]:
    """The exact 95 % interval, in percent, of a share of which `hits` in `n` were seen; [0, 100] for n = 0.

    Zero of 500 is [0, 0.74]: no hit is not a share of zero.
    """
    from scipy.special import betaincinv  # what scipy.stats seeks by bisection: a table has thousands

    low = betaincinv(hits, n - hits + 1, (1 - LEVEL) / 2) if hits else 0.0
    high = betaincinv(hits + 1, n - hits, (1 + LEVEL) / 2) if hits < n else 1.0
    return [round(100 * float(low), 4), round(100 * float(high), 4)]
