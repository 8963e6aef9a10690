"""What an unlearning method of the generation track is given, and the gradient loop that RL and SalUn share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Gt

from loreun_bench.training.context import RunContext, Sets

if TYPE_CHECKING:
    from torch import Tensor, nn

    from loreun_bench.generation.latents import LatentSet
    from loreun_bench.generation.pipelines import Pipeline
    from loreun_bench.generation.protocols import Protocol
    from loreun_bench.training.loop import Constraint

Parameters = Literal["full", "cross-attention", "no-cross-attention"]
Rate = Annotated[float, Gt(0)]
Count = Annotated[int, Ge(1)]


class Data(Sets["LatentSet"]):
    """The concepts of a scenario and those of their pictures that the method declared.

    prompts: one a concept; texts: their embeddings [k, length, width]; forgotten: the number of the forgotten concept.
    """

    def __init__(
        self, sets: Mapping[str, LatentSet], uses: frozenset[str], prompts: tuple[str, ...], texts: Tensor, forgotten: int
    ) -> None:
        super().__init__(sets, uses)
        self.prompts, self.texts, self.forgotten = prompts, texts, forgotten


@dataclass(kw_only=True)
class Context(RunContext):
    """How to run, and the curve ℓ°_t [timesteps] if the weighting needs it."""

    protocol: Protocol
    curve: Tensor | None


@dataclass(frozen=True)
class Method:
    """A method that moves the denoiser's weights in place.

    parameters: which of them it may move. A subclass defines `unlearn`, or derives from GradientMethod.
    """

    name: ClassVar[str]
    uses: ClassVar[frozenset[str]]

    lr: Rate = 1e-5
    batch_size: Count = 8
    parameters: Parameters = "full"

    def active(self) -> Iterator[str] | tuple[str, ...]:
        """The phases that a weighting can change."""
        return ()

    def samples(self, sizes: Mapping[str, int]) -> int:
        """Samples passed forward in training, for the plan's estimate."""
        return 0

    def unlearn(self, pipeline: Pipeline, data: Data, context: Context) -> None:
        """Unlearn in place."""
        raise NotImplementedError


@dataclass(frozen=True)
class GradientMethod(Method):
    """Steps of a forget batch and a retain batch together (Algorithm 1); an epoch is one pass over the forget set.

    A subclass says what the forget batch's prediction is to become (`forget_target`). Weightings, masks, guards and cost
    come for free. alpha: the retain loss's factor, β of eq. 3.
    """

    epochs: Count = 5
    alpha: Annotated[float, Ge(0)] = 1.0

    def active(self) -> tuple[str, ...]:
        """Both phases, or the first where alpha is 0."""
        return ("forget", "retain") if self.alpha else ("forget",)

    def samples(self, sizes: Mapping[str, int]) -> int:
        """Two predictions a forget picture, one a retain picture."""
        return self.epochs * sizes["forget"] * 3

    def forget_target(
        self, pipeline: Pipeline, noisy: Callable[[], Tensor], t: Tensor, concepts: Tensor, data: Data, context: Context
    ) -> Tensor:
        """What the prediction of a forget batch is to become, detached; `noisy()` is its noisy latent."""
        raise NotImplementedError

    def constraint(
        self, pipeline: Pipeline, parameters: Mapping[str, nn.Parameter], data: Data, context: Context
    ) -> Constraint | None:
        """What must hold of the parameters throughout, such as a saliency mask."""
        return None

    def unlearn(self, pipeline: Pipeline, data: Data, context: Context) -> None:
        """Descend on eq. 6 in place."""
        from loreun_bench.generation.unlearning import descend

        descend(self, pipeline, data, context)
