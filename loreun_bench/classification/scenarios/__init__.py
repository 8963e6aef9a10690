"""Ways to choose what is forgotten, one file each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol

from annotated_types import Ge, Gt, Lt

from loreun_bench.errors import UserError

if TYPE_CHECKING:
    import numpy as np

Fraction = Annotated[float, Gt(0), Lt(1)]
Count = Annotated[int, Ge(1)]
Table = Mapping[str, "np.ndarray"]  # columns, one entry a picture
Stream = Callable[..., "np.random.Generator"]  # a random generator by its name: stream("forget")


class Scenario(Protocol):
    """What a scenario's file defines: settings, a label, and `draw`.

    It may also have `gone(labels, names, table)`: which test pictures are of what is forgotten as a whole, and are tested on
    apart; `files() -> tuple[str, ...]`: the files that it reads, such as those that its settings name; and
    `tables() -> tuple[str, ...]`: those of them that are CSVs with a row a picture. Positions may be booleans [n], too.
    """

    kind: ClassVar[str]

    @property
    def label(self) -> str:
        """Its name in records and tables."""
        ...

    def draw(
        self, labels: np.ndarray, names: Sequence[str], table: Table, stream: Stream, original: np.ndarray | None = None
    ) -> Any:
        """The positions [m], of n training pictures, that are forgotten; of a scenario that `relabels`, a pair of these and
        the wrong labels [m] they get.

        labels: [n] int64; names: of the classes; table: what is known of the pictures, such as "file", "subclass" and a
        CSV's columns; original: the original model's losses [n], for a scenario that `needs` it.
        """
        ...


@dataclass(frozen=True)
class Sized:
    """The settings of a scenario that forgets a `fraction` of the training pictures, or a `count` of them."""

    fraction: Fraction | None = None
    count: Count | None = None

    def __post_init__(self) -> None:
        if (self.fraction is None) == (self.count is None):
            raise UserError("give fraction (a share between 0 and 1) or count (a number of pictures), one of the two")

    @property
    def size(self) -> str:
        """As labels say it: 10% or 450."""
        return f"{self.count}" if self.count is not None else percent(self.fraction or 0.0)

    def portion(self, n: int) -> int:
        """How many of n that is. UserError if there are not so many."""
        if self.count is not None and self.count > n:
            raise UserError(f"count: {self.count} pictures are to be forgotten and there are {n}")
        return self.count if self.count is not None else round((self.fraction or 0.0) * n)


def percent(fraction: float) -> str:
    """10%."""
    return f"{100 * fraction:g}%"
