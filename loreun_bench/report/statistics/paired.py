"""Paired differences over seeds: Student's t, Holm's correction, and what as many seeds could have shown.

The unit is the seed: rows of one seed share the split, the original model and the streams, so that what only the seed is to
blame for falls out of their difference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

LEVEL = 0.05  # of a test, two-sided
POWER = 0.8  # of what `least` says


@dataclass(frozen=True)
class Paired:
    """Mean differences of n pairs each and their standard errors, arrays of one shape.

    An error of 0 is that of differences which are all alike: they are none, or nothing is known of how they vary.
    """

    mean: Array
    error: Array
    n: int

    @property
    def p(self) -> Array:
        """Two-sided p-values of no difference; NaN where differences are alike but not 0."""
        import numpy as np
        from scipy.special import stdtr

        with np.errstate(divide="ignore", invalid="ignore"):
            found = 2 * stdtr(self.n - 1, -np.abs(self.mean / self.error))
        return np.where(self.error > 0, found, np.where(self.mean == 0, 1.0, np.nan))

    def half(self, level: float = LEVEL) -> Array:
        """Half-widths of the 1 - level t-intervals."""
        from scipy.special import stdtrit

        return self.error * float(stdtrit(self.n - 1, 1 - level / 2))

    def least(self, level: float = LEVEL) -> Array:
        """The differences that a two-sided test at `level` would find in POWER of such sweeps, were they true."""
        return self.error * _noncentrality(self.n - 1, level)

    @property
    def p_above(self) -> Array:
        """One-sided p-values of a difference of 0 or less; NaN as for `p`, and 0 of none at all in any pair."""
        import numpy as np
        from scipy.special import stdtr

        with np.errstate(divide="ignore", invalid="ignore"):
            found = stdtr(self.n - 1, -self.mean / self.error)
        return np.where(self.error > 0, found, np.where(self.mean == 0, 0.0, np.nan))


def paired(differences: Any, overlap: float = 0.0, floor: Any = 0.0) -> Paired:
    """The mean and standard error of `differences` [..., n], n >= 2.

    overlap: samples that each seed draws anew over those that it leaves, where all seeds draw from the same ones: their
    differences are not independent, and the variance of their mean is (1/n + overlap) times that of one (Nadeau and Bengio,
    2003). floor: [...], the variance that a difference has by counting alone; a smaller one is taken for it.
    """
    import numpy as np

    values = np.asarray(differences, dtype=np.float64)
    n = values.shape[-1]
    variance = values.var(axis=-1, ddof=1)
    alike = np.sqrt(variance) < 1e-12 * np.abs(values).max(axis=-1, initial=0.0)  # but for rounding
    variance = np.maximum(np.where(alike, 0.0, variance), floor)
    return Paired(values.mean(axis=-1), np.sqrt(variance * (1 / n + overlap)), n)


def holm(p: Any) -> Array:
    """p-values corrected for their number, so that the chance of any false difference stays at the level (Holm, 1979); NaN,
    which no test gave, is not counted."""
    import numpy as np

    values = np.asarray(p, dtype=np.float64)
    there = np.flatnonzero(~np.isnan(values.ravel()))
    order = there[np.argsort(values.ravel()[there], kind="stable")]
    found = np.full(values.size, np.nan)
    found[order] = np.minimum(np.maximum.accumulate(values.ravel()[order] * np.arange(len(order), 0, -1)), 1.0)
    return found.reshape(values.shape)


def _noncentrality(df: int, level: float) -> float:
    """By how many standard errors a difference must leave 0 to be found with POWER."""
    from scipy.optimize import brentq
    from scipy.special import nctdtr, stdtrit

    critical = float(stdtrit(df, 1 - level / 2))
    if not math.isfinite(critical):
        return math.nan
    return float(brentq(lambda shift: nctdtr(df, shift, critical) - (1 - POWER), 0.0, 4 * critical + 10, xtol=1e-6))
