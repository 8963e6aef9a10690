"""Ranks that show ties: the places that the seeds leave each row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from loreun_bench.report.statistics.paired import LEVEL, Paired, holm

if TYPE_CHECKING:
    from loreun_bench.report.statistics.paired import Array


def shown_better(columns: Sequence[Paired]) -> Array:
    """Of each pair 1 if its first row is shown to be better, -1 if its second is, else 0.

    columns: the differences of the pairs, column by column; the first column that tells a pair apart decides. p-values are
    corrected over all pairs and columns, so that with 95 % certainty no pair is told apart falsely.
    """
    import numpy as np

    shown = holm(np.stack([each.p for each in columns])) < LEVEL
    better = np.zeros(shown.shape[1])
    for each, sure in zip(reversed(columns), shown[::-1], strict=True):  # so that the first column has the last word
        better = np.where(sure, np.sign(each.mean), better)
    return better


def intervals(better: Array, rows: int) -> list[tuple[int, int]]:
    """Of each row the first and the last place that is left to it: one more than the rows that are better, and all but
    those that are worse. better: of each two rows, in the order of triu_indices."""
    import numpy as np

    one, other = np.triu_indices(rows, 1)
    above = np.bincount(other, better > 0, rows) + np.bincount(one, better < 0, rows)
    below = np.bincount(one, better > 0, rows) + np.bincount(other, better < 0, rows)
    return [(1 + int(up), rows - int(down)) for up, down in zip(above, below, strict=True)]
