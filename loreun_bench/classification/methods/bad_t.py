"""Bad teaching: an untrained teacher for the forget set, the original for the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Gt

from loreun_bench.classification.unlearning.gradient import GradientMethod, mixed, mixture
from loreun_bench.classification.unlearning.method import LEAST, Context, Data, Epochs, Rate, Share
from loreun_bench.decorators import method

if TYPE_CHECKING:
    from torch import Tensor, nn

    from loreun_bench.classification.unlearning.gradient import Runs, Step


@method("Bad-T", uses={"forget", "retain"}, paper="Chundawat et al., AAAI 2023")
@dataclass(frozen=True)
class BadTeacher(GradientMethod):
    """The model imitates, on one mixture of the forget set and a `share` of the retain set, an untrained network on the
    former and the original on the latter."""

    joined: ClassVar[bool] = True

    epochs: Epochs = 1
    lr: Rate = 1e-4
    optimizer: Literal["sgd", "adam"] = "adam"
    weight_decay: float = 0.0
    share: Share = 0.3
    temperature: Annotated[float, Gt(0)] = 1.0

    def prepare(self, model: nn.Module, data: Data, context: Context) -> Any:
        """The two teachers; the bad one's weights are the run's seed's."""
        from loreun_bench.training.frozen import teacher

        return {"forget": teacher(context.fresh()), "retain": teacher(model)}

    def losses(self, phase: str, x: Tensor, logits: Tensor, targets: Tensor, context: Context) -> Tensor:
        """The divergence from the phase's teacher [n]."""
        from loreun_bench.training.distillation import divergence, taught

        return divergence(logits, taught(context.prepared[phase], x, context), self.temperature)

    def steps(self, runs: Runs, data: Data, context: Context) -> Iterator[Step]:
        """Batches of the mixture, each taken apart by phase; the retain set's share is drawn anew in every epoch."""
        return mixture(self, runs, self.share, context)

    def samples(self, sizes: Mapping[str, int]) -> int:
        """The mixture, seen by the model and by a teacher."""
        return self.epochs * 2 * mixed(sizes, self.share)

    def count(self, sizes: Mapping[str, int]) -> int:
        """Batches of the mixture."""
        from loreun_bench.training.loop import cuts

        return self.epochs * len(cuts(mixed(sizes, self.share), self.batch_size, LEAST))
