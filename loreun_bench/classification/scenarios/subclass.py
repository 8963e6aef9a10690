"""Forgetting a fine class under a coarse label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loreun_bench.classification.scenarios import Stream, Table
from loreun_bench.decorators import scenario
from loreun_bench.errors import UserError
from loreun_bench.names import Names, places

if TYPE_CHECKING:
    import numpy as np


@scenario("subclass", paper="Foster et al., AAAI 2024")
@dataclass(frozen=True)
class Subclass:
    """All pictures of a subclass, or of several, by name: the label that is trained on stays, as its other subclasses do.

    For data that know subclasses, such as `cifar20` (the 100 classes of CIFAR-100 under its 20 super-classes) or picture
    folders with folders inside the classes'. Their test pictures are tested on apart.
    """

    forget_subclass: Names

    @property
    def label(self) -> str:
        """subclass-rocket, subclass-rocket+sea."""
        return f"subclass-{'+'.join(self.forget_subclass)}"

    def draw(
        self, labels: np.ndarray, names: Sequence[str], table: Table, stream: Stream, original: np.ndarray | None = None
    ) -> np.ndarray:
        """The subclasses' pictures."""
        import numpy as np

        if "subclass" not in table:
            raise UserError("scenario subclass: these data know no subclasses; cifar20 does, and folders in the classes'")
        places(self.forget_subclass, sorted(set(table["subclass"].tolist())), "forget_subclass")
        return np.flatnonzero(self.gone(labels, names, table))

    def gone(self, labels: np.ndarray, names: Sequence[str], table: Table) -> np.ndarray:
        """Pictures of the subclasses, of which the test part may have none."""
        import numpy as np

        wanted = {name.casefold() for name in self.forget_subclass}
        return np.array([name.casefold() in wanted for name in table.get("subclass", [])], dtype=bool)
