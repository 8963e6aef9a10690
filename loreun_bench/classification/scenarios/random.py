"""Random forgetting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loreun_bench.classification.scenarios import Count, Fraction, Stream, Table, one_size, portion, size_label
from loreun_bench.registry import scenario

if TYPE_CHECKING:
    import numpy as np


@scenario("random", paper="Golatkar et al., CVPR 2020; LoReUn section 5")
@dataclass(frozen=True)
class Random:
    """A random `fraction` of the training pictures (validation left out), or `count` of them."""

    fraction: Fraction | None = None
    count: Count | None = None

    def __post_init__(self) -> None:
        one_size(self.fraction, self.count)

    @property
    def label(self) -> str:
        """random-10%, random-450."""
        return f"random-{size_label(self.fraction, self.count)}"

    def draw(
        self, labels: np.ndarray, names: Sequence[str], table: Table, stream: Stream, original: np.ndarray | None = None
    ) -> np.ndarray:
        """A random part of all."""
        return stream("forget").permutation(len(labels))[: portion(self.fraction, self.count, len(labels))]
