"""Labelled pictures, decoded when they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor


@dataclass(frozen=True)
class Pictures:
    """The pictures of one split of a data set.

    classes: their names, as they are put into prompts; labels: [N] int64; load: (positions [n], size) -> [n, 3, size,
    size] in [-1, 1]; files: where they lie, if in files.
    """

    classes: tuple[str, ...]
    labels: Tensor
    load: Callable[[Tensor, int], Tensor]
    files: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return self.labels.shape[0]

    def of(self, label: int) -> Tensor:
        """The positions of a class's pictures."""
        return (self.labels == label).nonzero().squeeze(1)

    def others(self, label: int) -> Tensor:
        """The positions of all other pictures."""
        return (self.labels != label).nonzero().squeeze(1)
