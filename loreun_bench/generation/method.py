"""What an unlearning method of the generation track is given, and the gradient loop that RL and SalUn share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Gt

from loreun_bench.errors import UserError
from loreun_bench.harness.seeding import derive

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from loreun_bench.generation.latents import LatentSet
    from loreun_bench.generation.pipelines import Pipeline
    from loreun_bench.generation.protocols import Protocol
    from loreun_bench.training.clock import Meter
    from loreun_bench.training.loop import Constraint
    from loreun_bench.weightings import Phase

Parameters = Literal["full", "cross-attention", "no-cross-attention"]
Rate = Annotated[float, Gt(0)]
Count = Annotated[int, Ge(1)]


class Data:
    """The concepts of a scenario and their pictures. Reading a set that the method did not declare is an error.

    prompts: one a concept; texts: their embeddings [k, length, width]; forgotten: the number of the forgotten concept.
    """

    def __init__(
        self, sets: Mapping[str, LatentSet], uses: frozenset[str], prompts: tuple[str, ...], texts: Tensor, forgotten: int
    ) -> None:
        self._sets, self._uses = sets, uses
        self.prompts, self.texts, self.forgotten = prompts, texts, forgotten

    forget = property(lambda self: self._read("forget"))
    retain = property(lambda self: self._read("retain"))

    def _read(self, name: str) -> LatentSet:
        if name not in self._uses:
            raise UserError(f"the method read the {name} set but declares uses={sorted(self._uses)}")
        return self._sets[name]


@dataclass
class Context:
    """How to run: device, precision, protocol, the weighting's phases, the curve ℓ°_t [timesteps], seed, the meter."""

    device: str
    precision: str
    protocol: Protocol
    phases: Mapping[str, Phase]
    curve: Tensor | None
    seed: int
    meter: Meter
    limit_steps: int | None = None
    _streams: dict[str, torch.Generator] = field(default_factory=dict)

    def stream(self, *name: str | int, device: str | None = None) -> torch.Generator:
        """The random generator called `name`. Streams do not depend on method or weighting, so that all rows of a seed
        see the same batches, noise and timesteps."""
        import torch

        key = "/".join(map(str, name))
        if key not in self._streams:
            self._streams[key] = torch.Generator(device or self.device).manual_seed(derive(self.seed, *name))
        return self._streams[key]


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
