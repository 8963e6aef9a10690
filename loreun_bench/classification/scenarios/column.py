"""Forgetting by what a table says of the pictures: all of one person, of one place, of one source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loreun_bench.classification.scenarios import Stream, Table
from loreun_bench.decorators import scenario
from loreun_bench.errors import UserError
from loreun_bench.names import Name, Names, places

if TYPE_CHECKING:
    import numpy as np


@scenario("column", explicit=True)
@dataclass(frozen=True)
class Column:
    """All training pictures for which a `column` of a CSV has a `value`, or one of several; none is held out.

    table: a CSV with a row a picture, or several (a group of people), looked for here and beside the data. A picture's row
    is found by its file's name, or as much of its path as tells it from others, in whichever column has those (or the one
    that `key` names); where the data have no files, the rows are the training pictures in their order, or a column `index`
    says which. Test pictures with the value are tested on apart.
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
        cells = table[list(table)[column]]
        known = sorted({value for cell in set(cells.tolist()) for value in cell.split("\n")} - {""})
        places(self.value, known, f"value of {self.column}")
        spelled = [value for value in known if value.casefold() in self._folded()]
        if len(spelled) > len(self.value):
            words = " and ".join(spelled)
            raise UserError(f"column {self.column}: {words} differ in case only; give both, or mend the table")
        return np.flatnonzero(self._among(cells))

    def gone(self, labels: np.ndarray, names: Sequence[str], table: Table) -> np.ndarray:
        """The test pictures with the value, as far as the table has rows of test pictures."""
        (column,) = places([self.column], list(table), "column")
        return self._among(table[list(table)[column]])

    def _among(self, cells: np.ndarray) -> np.ndarray:
        """Where a cell, which may hold what several rows say, has one of the values [n]."""
        import numpy as np

        wanted = self._folded()
        has = {cell: any(value.casefold() in wanted for value in cell.split("\n")) for cell in set(cells.tolist())}
        return np.array([has[cell] for cell in cells.tolist()], dtype=bool)

    def _folded(self) -> set[str]:
        return {value.casefold() for value in self.value}
