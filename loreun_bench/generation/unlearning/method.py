"""What an unlearning method of the generation track is given, and the gradient loop that RL and SalUn share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt

from loreun_bench.training.context import RunContext, Sets

if TYPE_CHECKING:
    from torch import Tensor

    from loreun_bench.generation.data.latents import LatentSet
    from loreun_bench.generation.pipeline.pipelines import Pipeline
    from loreun_bench.generation.unlearning.protocols import Protocol

Parameters = Literal["full", "cross-attention", "keys-and-values", "no-cross-attention"]
Rate = Annotated[float, Gt(0)]
Count = Annotated[int, Ge(1)]


class Data(Sets["LatentSet"]):
    """The concepts of a scenario and those of their pictures that the method declared.

    prompts: one a concept; texts: their embeddings [k, length, width]; forgotten: the numbers of the forgotten concepts.
    names: what each of these is called inside its prompt; bare: the text that stands for it alone, such as "nudity".
    """

    def __init__(
        self,
        sets: Mapping[str, LatentSet],
        uses: frozenset[str],
        prompts: tuple[str, ...],
        texts: Tensor,
        forgotten: tuple[int, ...],
        names: tuple[str, ...] = (),
        bare: tuple[str, ...] = (),
    ) -> None:
        super().__init__(sets, uses)
        self.prompts, self.texts, self.forgotten = prompts, texts, forgotten
        whole = tuple(prompts[number] for number in forgotten)
        self.names, self.bare = names or whole, bare or whole

    def others(self, number: int) -> list[int]:
        """The concepts that are kept, counted on in a circle from `number`."""
        kept = [other for other in range(len(self.prompts)) if other not in self.forgotten]
        return sorted(kept, key=lambda other: (other - number) % len(self.prompts))

    def bare_texts(self, pipeline: Pipeline) -> Tensor:
        """Embeddings [f, length, width] of the forgotten concepts' bare texts."""
        import torch

        pairs = zip(self.forgotten, self.bare, strict=True)
        own = [self.texts[k] if text == self.prompts[k] else pipeline.embed([text])[0] for k, text in pairs]
        return torch.stack(own)


@dataclass(kw_only=True)
class Context(RunContext):
    """How to run, and each phase's curve ℓ°_t [timesteps] if the weighting needs it. prepared: what the method's `prepare`
    made."""

    protocol: Protocol
    curve: Mapping[str, Tensor]
    prepared: Any = None


@dataclass(frozen=True)
class Asked:
    """What is known of a scenario and the pipeline when a sweep is planned.

    tokenizer: with the length that the text encoder reads; schedule: the DDIM scheduler; the rest as in Data.
    """

    tokenizer: Any
    schedule: Any
    prompts: tuple[str, ...]
    forgotten: tuple[int, ...]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Method(ABC):
    """A method that moves the denoiser's weights in place.

    parameters: which of them it may move. A subclass defines `unlearn`, or derives from GradientMethod. space: the settings
    that `tune` tries, from the least to the greatest value. spreads: whether ranks may share its passes through the
    denoiser; else it runs in one process.
    """

    name: ClassVar[str]
    uses: ClassVar[frozenset[str]]
    spreads: ClassVar[bool] = False

    space: ClassVar[Mapping[str, tuple[float, float]]] = {"lr": (1e-6, 1e-2)}

    lr: Rate = 1e-5
    batch_size: Count = 8
    parameters: Parameters = "full"

    def active(self) -> Iterator[str] | tuple[str, ...]:
        """The phases that a weighting can change."""
        return ()

    def samples(self, sizes: Mapping[str, int]) -> int:
        """Samples passed forward in training, for the plan's estimate."""
        return 0

    def check(self, asked: Asked) -> None:  # noqa: B027, as most methods refuse nothing
        """UserError if the method cannot run on what a sweep asks for; called when it is planned."""

    @abstractmethod
    def unlearn(self, pipeline: Pipeline, data: Data, context: Context) -> None:
        """Unlearn in place."""
