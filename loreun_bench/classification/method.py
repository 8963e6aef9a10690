"""What an unlearning method is given, and the gradient loop that most methods share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt

from loreun_bench.training.context import RunContext, Sets

if TYPE_CHECKING:
    from torch import Tensor, nn

    from loreun_bench.classification.config import Recipe
    from loreun_bench.classification.images import Images
    from loreun_bench.classification.protocols import Protocol
    from loreun_bench.training.loop import Constraint

Epochs = Annotated[int, Ge(1)]
Rate = Annotated[float, Gt(0)]
Share = Annotated[float, Gt(0), Le(1)]


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


@dataclass(frozen=True)
class GradientMethod:
    """Unlearning by gradient steps on the forget and the retain set; weighting, masks, guards and cost come for free.

    A subclass says how much each phase counts (`forget_scale`, `retain_scale`; 0 leaves it out), which labels the
    forget phase optimises, and, if it wants, a constraint. schedule: "sequential", each epoch one pass over forget and
    then one over retain, as SalUn's code; "paired", each step one batch of both, the forget set cycling (Algorithm 1).
    """

    name: ClassVar[str]
    uses: ClassVar[frozenset[str]]
    from_scratch: ClassVar[bool] = False

    epochs: Epochs = 10
    lr: Rate = 0.01
    batch_size: Annotated[int, Ge(2)] = 256
    schedule: Literal["sequential", "paired"] = "sequential"
    optimizer: Literal["sgd", "adam"] = "sgd"
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    weight_decay: Annotated[float, Ge(0)] = 5e-4
    freeze_batchnorm: bool = False

    @property
    def forget_scale(self) -> float:
        """The factor of the forget loss: negative ascends."""
        return 1.0

    @property
    def retain_scale(self) -> float:
        """The factor of the retain loss."""
        return 1.0

    def forget_targets(self, labels: Tensor, data: Data, context: Context) -> Tensor:
        """The labels [n] optimised in the next pass over the forget set; `labels` are those to be forgotten."""
        return labels

    def constraint(self, model: nn.Module, data: Data, context: Context) -> Constraint | None:
        """What must hold of the parameters throughout, such as a saliency mask."""
        return None

    def samples(self, sizes: Mapping[str, int]) -> int:
        """Samples passed forward in training, given the size of each set; for the plan's estimate."""
        n_forget = sizes["forget"] if self.forget_scale and "forget" in self.uses else 0
        n_retain = sizes["retain"] if self.retain_scale and "retain" in self.uses else 0
        if self.schedule == "paired" and n_forget and n_retain:
            n_forget = -(-n_retain // self.batch_size) * min(self.batch_size, n_forget)
        return self.epochs * (n_forget + n_retain)

    def unlearn(self, model: nn.Module, data: Data, context: Context) -> nn.Module:
        """Unlearn in place and return the model."""
        from loreun_bench.classification.unlearning import descend

        return descend(self, model, data, context)

    def active(self) -> Iterator[str]:
        """The phases that this method runs."""
        for phase, scale in (("forget", self.forget_scale), ("retain", self.retain_scale)):
            if scale and phase in self.uses:
                yield phase
