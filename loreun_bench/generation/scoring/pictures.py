"""Labelled pictures, decoded when they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pictures:
    """The pictures of one split of a data set.

    classes: their names, as they are put into prompts; labels: [N] int64; load: (positions [n], size) -> [n, 3, size,
    size] in [-1, 1]; files: where they lie, if in a file each; packed: the one file that holds all of them.
    """

    classes: tuple[str, ...]
    labels: Tensor
    load: Callable[[Tensor, int], Tensor]
    files: tuple[Path, ...] = ()
    packed: Path | None = None

    def __len__(self) -> int:
        return self.labels.shape[0]

    def of(self, label: int) -> Tensor:
        """The positions of a class's pictures."""
        return (self.labels == label).nonzero().squeeze(1)

    def others(self, label: int) -> Tensor:
        """The positions of all other pictures."""
        return (self.labels != label).nonzero().squeeze(1)

    def limited(self, count: int | None) -> Pictures:
        """The first of each class, as many of each and at least one, `count` in all or a few less; all of them for None."""
        if count is None:
            return self
        each = max(1, count // len(self.classes))
        kept = torch.cat([self.of(label)[:each] for label in range(len(self.classes))])
        files = tuple(self.files[i] for i in kept.tolist()) if self.files else ()
        return replace(
            self, labels=self.labels[kept], load=lambda positions, size: self.load(kept[positions], size), files=files
        )
