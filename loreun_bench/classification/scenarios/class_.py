"""Class-wise forgetting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from loreun_bench.classification.scenarios import Fraction, Stream, Table, percent
from loreun_bench.decorators import scenario
from loreun_bench.names import Names, places

if TYPE_CHECKING:
    import numpy as np


@scenario("class", paper="Golatkar et al., CVPR 2020; LoReUn section 5")
@dataclass(frozen=True)
class ClassWise:
    """All pictures of a class, or of several, which are meant by name; with `fraction`, a random part of each.

    A class that is forgotten whole leaves the test set, too: its test pictures are tested on apart.
    """

    forget_class: Names
    fraction: Fraction | None = None

    @property
    def label(self) -> str:
        """class-3, class-cat+dog, class-cat-50%."""
        part = f"-{percent(self.fraction)}" if self.fraction else ""
        return f"class-{'+'.join(self.forget_class)}{part}"

    def spelled(self, names: Sequence[str]) -> ClassWise:
        """The same with the classes' names as the data have them."""
        return replace(self, forget_class=tuple(names[i] for i in places(self.forget_class, names, "forget_class")))

    def draw(
        self, labels: np.ndarray, names: Sequence[str], table: Table, stream: Stream, original: np.ndarray | None = None
    ) -> np.ndarray:
        """The classes' pictures."""
        import numpy as np

        wanted = places(self.forget_class, names, "forget_class")
        if self.fraction is None:
            return np.flatnonzero(np.isin(labels, wanted))
        parts = [stream("forget", number).permutation(np.flatnonzero(labels == number)) for number in wanted]
        return np.concatenate([part[: round(self.fraction * len(part))] for part in parts])

    def gone(self, labels: np.ndarray, names: Sequence[str], table: Table) -> np.ndarray:
        """The test pictures of classes that are forgotten whole."""
        import numpy as np

        wanted = places(self.forget_class, names, "forget_class") if self.fraction is None else []
        return np.isin(labels, wanted)
