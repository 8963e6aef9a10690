"""Ways to choose what is forgotten, one file each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol

from annotated_types import Ge, Gt, Lt

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


def portion(fraction: float | None, count: int | None, n: int) -> int:
    """How many of n a fraction or a count is. UserError if there are not so many."""
    from loreun_bench.errors import UserError

    if count is not None and count > n:
        raise UserError(f"count: {count} pictures are to be forgotten and there are {n}")
    return count if count is not None else round((fraction or 0.0) * n)


def one_size(fraction: float | None, count: int | None, optional: bool = False) -> None:
    """UserError unless one of the two is given; optional: or none."""
    from loreun_bench.errors import UserError

    if (fraction is not None) + (count is not None) > 1 or (fraction is count is None and not optional):
        raise UserError("give fraction (a share between 0 and 1) or count (a number of pictures), one of the two")


def size_label(fraction: float | None, count: int | None) -> str:
    """A size as labels say it: 10% or 450."""
    return f"{count}" if count is not None else f"{100 * (fraction or 0):g}%"
