"""The contract of an unlearning method: what it is given, and the types of its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt, Le

from loreun_bench.training.context import RunContext, Sets

if TYPE_CHECKING:
    from torch import Tensor

    from loreun_bench.classification.config import Recipe
    from loreun_bench.classification.data.images import Images
    from loreun_bench.classification.unlearning.protocols import Protocol

Epochs = Annotated[int, Ge(1)]
Rate = Annotated[float, Gt(0)]
Share = Annotated[float, Gt(0), Le(1)]
LEAST = 2  # images in a batch, where the set has so many: batch norm cannot train on one


@dataclass(frozen=True)
class ImageSet:
    """Part of the training images: their positions [n], and the labels [n] that are trained on, on the device."""

    images: Images
    index: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return self.index.shape[0]


class Data(Sets[ImageSet]):
    """The sets of a split that the method declared, and the number of classes."""

    def __init__(self, sets: Mapping[str, ImageSet], uses: frozenset[str], classes: int) -> None:
        super().__init__(sets, uses)
        self.classes = classes

    @property
    def validation(self) -> ImageSet:
        """What was kept from training."""
        return self._read("validation")


@dataclass(kw_only=True)
class Context(RunContext):
    """How to run, and the recipe of the original model."""

    protocol: Protocol
    recipe: Recipe
