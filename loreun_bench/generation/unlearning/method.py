"""What an unlearning method of the generation track is given, and the gradient loop that RL and SalUn share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Gt

from loreun_bench.training.context import RunContext, Sets

if TYPE_CHECKING:
    from torch import Tensor

    from loreun_bench.generation.data.latents import LatentSet
    from loreun_bench.generation.pipeline.pipelines import Pipeline
    from loreun_bench.generation.unlearning.protocols import Protocol

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
