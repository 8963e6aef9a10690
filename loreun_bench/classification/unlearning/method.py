"""The contract of an unlearning method: what it is given, and the types of its settings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge, Gt, Le

from loreun_bench.training.context import RunContext, Sets

if TYPE_CHECKING:
    from torch import Tensor, nn

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
    """How to run, and the recipe of the original model.

    fresh: makes a model of the same architecture with initial weights of its own. prepared: what the method's `prepare`
    made.
    """

    protocol: Protocol
    recipe: Recipe
    fresh: Callable[[], nn.Module]
    prepared: Any = None


@dataclass(frozen=True)
class Asked:
    """What a row would run on: the network, the size of each set, the number of classes."""

    model: nn.Module
    sizes: Mapping[str, int]
    classes: int


class Method(ABC):
    """A method that returns an unlearned model: a frozen dataclass whose fields are its settings.

    A subclass defines `unlearn`, or derives from GradientMethod. from_scratch: `unlearn` is given new initial weights in
    the place of the original model's. spreads: whether ranks may share its passes through the network; else it runs in one
    process. space: the settings that `tune` tries, from the least to the greatest value.
    """

    name: ClassVar[str]
    uses: ClassVar[frozenset[str]]
    from_scratch: ClassVar[bool] = False
    spreads: ClassVar[bool] = False
    space: ClassVar[Mapping[str, tuple[float, float]]] = {}

    def active(self) -> Iterator[str] | tuple[str, ...]:
        """The phases that a weighting can change."""
        return ()

    def check(self, asked: Asked) -> None:  # noqa: B027, as most methods refuse nothing
        """UserError, which begins with what is in the way, if the method cannot run there: its row is left out."""

    @abstractmethod
    def unlearn(self, model: nn.Module, data: Data, context: Context) -> nn.Module:
        """Unlearn, in place or not, and return the model."""
