"""Forgetting samples that were given wrong labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loreun_bench.classification.scenarios import Sized, Stream, Table
from loreun_bench.decorators import scenario

if TYPE_CHECKING:
    import numpy as np


@scenario("mislabelled", relabels=True, paper="Goel et al., 2022 (interclass confusion); LoReUn section 5")
@dataclass(frozen=True)
class Mislabelled(Sized):
    """A random `fraction` (or `count`) of the training pictures gets wrong labels before the original is trained on them."""

    @property
    def label(self) -> str:
        """mislabelled-10%."""
        return f"mislabelled-{self.size}"

    def draw(
        self, labels: np.ndarray, names: Sequence[str], table: Table, stream: Stream, original: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """A random part of all, and for each another class's label."""
        import numpy as np

        chosen = np.sort(stream("forget").permutation(len(labels))[: self.portion(len(labels))])
        classes = len(names)
        return chosen, (labels[chosen] + stream("labels").integers(1, classes, len(chosen))) % classes
