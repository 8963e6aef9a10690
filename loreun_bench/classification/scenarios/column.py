"""Forgetting by what a table says of the pictures: all of one person, of one place, of one source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loreun_bench.classification.scenarios import Stream, Table
from loreun_bench.names import Name, Names, places
from loreun_bench.registry import scenario

if TYPE_CHECKING:
    import numpy as np


@scenario("column", explicit=True)
@dataclass(frozen=True)
class Column:
    """All training pictures for which a `column` of a CSV has a `value`, or one of several; none is held out.

    table: a CSV with a row a picture, looked for here and beside the data. A picture's row is found by its file's name,
    in whichever column has those (or the one that `key` names); where the data have no files, the rows are the training
    pictures in their order, or a column `index` says which. Test pictures with the value are tested on apart.
    """

    table: str
    column: Name
    value: Names
    key: Name | None = None

    @property
    def label(self) -> str:
        """person-anna, person-anna+ben."""
        return f"{self.column}-{'+'.join(self.value)}"

    def files(self) -> tuple[str, ...]:
        """The table."""
        return (self.table,)

    def tables(self) -> tuple[str, ...]:
        """The table: its columns are known to `draw`."""
        return (self.table,)

    def draw(
        self, labels: np.ndarray, names: Sequence[str], table: Table, stream: Stream, original: np.ndarray | None = None
    ) -> np.ndarray:
        """The pictures with the value. UserError for a column or a value that is not there."""
        import numpy as np

        (column,) = places([self.column], list(table), "column")
        values = table[list(table)[column]]
        known = sorted(set(values.tolist()) - {""})
        wanted = [known[place] for place in places(self.value, known, f"value of {self.column}")]
        return np.flatnonzero(np.isin(values, wanted))

    def gone(self, labels: np.ndarray, names: Sequence[str], table: Table) -> np.ndarray:
        """The test pictures with the value, as far as the table has rows of test pictures."""
        import numpy as np

        (found,) = [name for name in table if name.casefold() == self.column.casefold()] or [""]
        return np.isin(table[found], self.value) if found else np.zeros(len(labels), dtype=bool)
