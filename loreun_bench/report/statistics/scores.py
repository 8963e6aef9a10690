"""What rows score in a column, seed by seed: larger is better, whatever the column."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from loreun_bench.report.group import Group
from loreun_bench.report.layout import layout
from loreun_bench.report.rows import Column, Row, Seeds
from loreun_bench.report.statistics.paired import Paired, paired

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


STEP = 0.01  # percentage points by which a derived value's slope is found


def score(row: Row, column: Column, group: Group) -> dict[Seeds, float]:
    """The values of a row, lower ones turned round; where Retrain's is the aim, minus the distance to it."""
    values = row.values.get(column.key, {})
    if column.best == "retrain":
        retrain = group.row("Retrain", row.run)
        aim = {} if retrain is None else retrain.values.get(column.key, {})
        found = {seeds: -abs(value - aim[seeds]) for seeds, value in values.items() if seeds in aim}
    else:
        sign = {"high": 1.0, "low": -1.0}.get(column.best, math.nan)
        found = {seeds: sign * value for seeds, value in values.items()}
    return {seeds: value for seeds, value in found.items() if math.isfinite(value)}


class Scores:
    """The scores of rows, all in the same seeds, by column."""

    def __init__(self, rows: Sequence[Row], columns: Sequence[Column], group: Group) -> None:
        import numpy as np

        found = [[score(row, column, group) for column in columns] for row in rows]
        wanted = {frozenset(row.by_seeds) for row in rows}
        self.seeds = sorted(next(iter(wanted))) if len(wanted) == 1 else []
        whole = [number for number, own in enumerate(found) if all(len(each) == len(self.seeds) for each in own)]
        self.rows, self.columns = [rows[number] for number in whole] if self.seeds else [], columns
        self._at = {id(row): place for place, row in enumerate(self.rows)}
        self._values = [
            np.array([[found[number][k][seeds] for seeds in self.seeds] for number in whole]) for k in range(len(columns))
        ]
        apart = len({dict(seeds).get("split") for seeds in self.seeds}) > 1
        self.overlap = max((record.overlap for row in self.rows for record in row.finished), default=0.0) if apart else 0.0
        fresh = layout(group.track).fresh
        self._noise = [np.array([_counting(rows[k], column) if fresh else 0.0 for k in whole]) for column in columns]

    def __contains__(self, row: Row | None) -> bool:
        return id(row) in self._at

    def values(self, column: int) -> NDArray[np.float64]:
        """The scores in a column [rows, seeds]."""
        return self._values[column]

    def paired(self, column: int, own: NDArray[np.intp], base: NDArray[np.intp]) -> Paired:
        """The differences of rows to others, each given by its place."""
        values, noise = self._values[column], self._noise[column]
        return paired(values[own] - values[base], self.overlap, floor=noise[own] + noise[base])

    def places(self, rows: Sequence[Row]) -> NDArray[np.intp]:
        """Where rows are."""
        import numpy as np

        return np.array([self._at[id(row)] for row in rows], dtype=np.intp)


def _counting(row: Row, column: Column) -> float:
    """The variance that one seed's value has by counting alone, of samples of its own (pictures): in percent, or, of a value
    that is derived from shares, by how it moves with each."""
    if not column.derived:
        found = [_variance(row, column.key)] if column.unit == "%" else []
    else:
        assert column.entry is not None
        keys, means = {key for record in row.finished for key in record.counts}, _means(row)
        found = []
        for key in keys & means.keys():
            down, up = ({**means, key: means[key] + step} for step in (-STEP, STEP))
            try:
                slope = (column.entry.item(up, {}) - column.entry.item(down, {})) / (2 * STEP)
            except KeyError:  # it reads what was not measured
                return 0.0
            found.append(slope * slope * _variance(row, key))
    return math.fsum(found)


def _variance(row: Row, key: str) -> float:
    """Of one seed's share in percent; a share of 0 or 1 is taken for half a hit from it. 0 where it was not counted."""
    pairs = [record.counts[key] for record in row.finished if key in record.counts]
    if len(pairs) < len(row.finished) or not pairs:
        return 0.0
    hits, n = (sum(pair[i] for pair in pairs) for i in (0, 1))
    share = (hits + 0.5) / (n + 1)
    return 1e4 * share * (1 - share) * len(pairs) / n


def _means(row: Row) -> dict[str, float]:
    keys = set.intersection(*(set(record.metrics) for record in row.finished))
    return {key: math.fsum(record.metrics[key] for record in row.finished) / len(row.finished) for key in keys}
