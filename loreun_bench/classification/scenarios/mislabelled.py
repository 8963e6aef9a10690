"""Forgetting samples that were given wrong labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loreun_bench.classification.scenarios import Count, Fraction, Stream, Table, one_size, portion, size_label
from loreun_bench.registry import scenario

if TYPE_CHECKING:
    import numpy as np


@scenario("mislabelled", relabels=True, paper="Goel et al., 2022 (interclass confusion); LoReUn section 5")
@dataclass(frozen=True)
class Mislabelled:
    """A random `fraction` (or `count`) of the training pictures gets wrong labels before the original is trained on them."""

    fraction: Fraction | None = None
    count: Count | None = None

    def __post_init__(self) -> None:
        one_size(self.fraction, self.count)

    @property
    def label(self) -> str:
        """mislabelled-10%."""
        return f"mislabelled-{size_label(self.fraction, self.count)}"

    def draw(
        self, labels: np.ndarray, names: Sequence[str], table: Table, stream: Stream, original: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """A random part of all, and for each another class's label."""
        import numpy as np

        chosen = np.sort(stream("forget").permutation(len(labels))[: portion(self.fraction, self.count, len(labels))])
        classes = len(names)
        return chosen, (labels[chosen] + stream("labels").integers(1, classes, len(chosen))) % classes
