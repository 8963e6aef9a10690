"""Forgetting what the original model fits best, or worst."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from loreun_bench.classification.scenarios import Sized, Stream, Table
from loreun_bench.decorators import scenario

if TYPE_CHECKING:
    import numpy as np


@scenario("by-loss", needs={"original"}, paper="MUBox, 2025 (lowest and highest loss); LoReUn's own hypothesis")
@dataclass(frozen=True)
class ByLoss(Sized):
    """The `fraction` (or `count`) of the training pictures with the lowest, or the highest, loss on the original model.

    Losses are in evaluation mode, without augmentation; each seed has its own original, and so its own forget set.
    """

    which: Literal["lowest", "highest"] = "lowest"

    @property
    def label(self) -> str:
        """lowest-loss-10%, highest-loss-450."""
        return f"{self.which}-loss-{self.size}"

    def draw(
        self, labels: np.ndarray, names: Sequence[str], table: Table, stream: Stream, original: np.ndarray | None = None
    ) -> np.ndarray:
        """The ends of the order by loss; of equal losses the earlier picture comes first."""
        import numpy as np

        assert original is not None
        order = np.argsort(original if self.which == "lowest" else -original, kind="stable")
        return order[: self.portion(len(labels))]
