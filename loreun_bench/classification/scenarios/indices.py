"""Forgetting pictures that are listed one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from loreun_bench.classification.scenarios import Stream, Table
from loreun_bench.decorators import scenario
from loreun_bench.errors import UserError

if TYPE_CHECKING:
    import numpy as np


@scenario("indices", explicit=True)
@dataclass(frozen=True)
class Indices:
    """The training pictures of a list: `indices`, or a `file` of them.

    An index counts the training pictures from 0 in the data set's order, validation not yet put aside; `split export`
    writes them. file: .npy (integers, or one boolean a picture), .txt (one a line), .csv (its column `index` or `file`, of
    the rows whose column `set`, if there is one, is `forget`; or its only column). A text file may name picture files
    instead. None of them is held out for validation.
    """

    indices: tuple[int, ...] | None = None
    file: str | None = None

    def __post_init__(self) -> None:
        if (self.indices is None) == (self.file is None):
            raise UserError("scenario indices: give indices (a list) or file (.npy, .txt or .csv), one of the two")
        if self.indices == ():
            raise UserError("scenario indices: the list is empty")

    @property
    def label(self) -> str:
        """indices-forget.txt, or indices-40 for a list of 40."""
        return f"indices-{Path(self.file).name}" if self.file else f"indices-{len(self.indices or ())}"

    def files(self) -> tuple[str, ...]:
        """The list's file."""
        return (self.file,) if self.file else ()

    def draw(
        self, labels: np.ndarray, names: Sequence[str], table: Table, stream: Stream, original: np.ndarray | None = None
    ) -> np.ndarray:
        """The listed positions. UserError for one that is not there, or there twice."""
        import numpy as np

        if self.file is None:
            return checked(np.array(self.indices), len(labels), "scenario indices")
        from loreun_bench.classification.data.lists import read_list

        return checked(read_list(Path(self.file), table, len(labels)), len(labels), self.file)


def checked(found: np.ndarray, n: int, where: str) -> np.ndarray:
    """`found`, if they are positions in n pictures, each once."""
    import numpy as np

    outside = found[(found < 0) | (found >= n)]
    if len(outside):
        raise UserError(f"{where}: index {outside[0]} is none of the training pictures 0 to {n - 1}")
    once, counts = np.unique(found, return_counts=True)
    if len(once) < len(found):
        raise UserError(f"{where}: index {once[counts > 1][0]} is given twice")
    return once
