"""Random forgetting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loreun_bench.classification.scenarios import Sized, Stream, Table
from loreun_bench.decorators import scenario

if TYPE_CHECKING:
    import numpy as np


@scenario("random", paper="Golatkar et al., CVPR 2020; LoReUn section 5")
@dataclass(frozen=True)
class Random(Sized):
    """A random `fraction` of the training pictures (validation left out), or `count` of them."""

    @property
    def label(self) -> str:
        """random-10%, random-450."""
        return f"random-{self.size}"

    def draw(
        self, labels: np.ndarray, names: Sequence[str], table: Table, stream: Stream, original: np.ndarray | None = None
    ) -> np.ndarray:
        """A random part of all."""
        return stream("forget").permutation(len(labels))[: self.portion(len(labels))]
