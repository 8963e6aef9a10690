"""Loss reweightings, one small file each. A weighting says, for each phase, how the batch's losses become weights."""

from __future__ import annotations

import inspect
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

from annotated_types import Ge

from loreun_bench.errors import UserError

if TYPE_CHECKING:
    from torch import Generator, Tensor

Eta = Annotated[float, Ge(0)]
PHASES = frozenset({"forget", "retain"})  # of unlearning, that can be weighted


@dataclass(frozen=True)
class Phase:
    """How one phase of unlearning is weighted: w ∝ exp(∓eta·score), renormalised over the batch.

    direction: "forget" (small losses weigh more, eq. 4) or "retain" (large losses weigh more, eq. 5).
    score: "current", the clean-label loss on the model being unlearned, which the step computes anyway; or "original",
    each sample's loss on the original model, which costs one evaluation pass before unlearning begins.
    """

    direction: Literal["forget", "retain"]
    eta: float
    score: Literal["current", "original"] = "current"

    def __post_init__(self) -> None:
        if not math.isfinite(self.eta):
            raise ValueError(f"eta = {self.eta} is not finite")
        if self.direction not in ("forget", "retain") or self.score not in ("current", "original"):
            raise ValueError(f"direction {self.direction!r} or score {self.score!r} is none that a phase can have")


@dataclass(frozen=True)
class Batch:
    """What a weighting that is a function is told of a batch. Nothing here has a gradient.

    clean_losses [N]: of the true labels, or of the noise that was added; objective_losses [N]: of what is optimised; labels
    [N]: true classes, or concepts; logits: [N, C] (generation: the prediction, [N, …]); phase: "forget" or "retain"; epoch:
    passes over the phase's samples that are done; step: the phase's steps that are done; generator: the weighting's own,
    the same for every method; timesteps [N]: of generation.
    """

    clean_losses: Tensor
    objective_losses: Tensor
    labels: Tensor
    logits: Tensor
    phase: str
    epoch: int
    step: int
    original: Tensor | None = None
    timesteps: Tensor | None = None
    generator: Generator | None = None
    unseen: Tensor | None = None

    @property
    def original_losses(self) -> Tensor:
        """The clean losses on the original model [N] (generation: its mean loss at each timestep)."""
        if self.original is None:
            raise UserError("original_losses were not computed: say `needs_original = True` in the weighting's class")
        return self.original

    @property
    def unseen_probabilities(self) -> Tensor:
        """Mean and standard deviation, by class, of the true class's probability on validation pictures [2, C], in the model
        as it was before unlearning."""
        if self.unseen is None:
            raise UserError("unseen_probabilities were not computed: say `needs_validation = True` in the weighting's class")
        return self.unseen

    @property
    def probabilities(self) -> Tensor:
        """Of the classes, [N, C]."""
        if self.timesteps is not None:
            raise UserError("a denoiser has no class probabilities: this weighting is for classification")
        return self.logits.float().softmax(1)


@dataclass(frozen=True)
class Rule:
    """How one phase is weighted by a function of the batch. "mean": the weights multiply the losses in a mean, 1 for each
    being the plain one; "batch": they are divided by their sum first. score: as of a Phase. validation: it asks for
    `unseen_probabilities`."""

    weights: Callable[[Batch], Tensor]
    normalize: Literal["mean", "batch"] = "mean"
    score: Literal["current", "original"] = "current"
    name: str = ""
    validation: bool = False

    def of(self, batch: Batch) -> Tensor:
        """The weights [N] that the objective losses are summed with. UserError if the function gives no weights."""
        import torch

        from loreun_bench.ops import loreun_weights

        with torch.no_grad():
            found = self.weights(batch)
            try:
                return loreun_weights(batch.clean_losses, weights=lambda _: found, normalize=self.normalize)
            except ValueError as error:
                raise UserError(f"weighting '{self.name}': {error}") from None


class Weighting(Protocol):
    """What a weighting file defines: settings, and the phases it weights. A phase left out has uniform weights.

    In place of `phases` it may define `weights(self, batch: Batch) -> Tensor`, [N] numbers that are not negative, and say
    `active` (the phases, by default "forget" alone), `normalize`, `needs_original` and `needs_validation`.
    """

    name: str

    def phases(self) -> Mapping[str, Phase | Rule]:
        """The weighted phases, of "forget" and "retain"."""
        ...


def phases_of(weighting: Any) -> Mapping[str, Phase | Rule]:
    """A weighting's phases. ValueError if what it says beside `weights` is none of what there is."""
    if hasattr(weighting, "phases"):
        return weighting.phases()  # type: ignore[no-any-return]
    active, normalize = getattr(weighting, "active", ("forget",)), getattr(weighting, "normalize", "mean")
    active = (active,) if isinstance(active, str) else tuple(active)
    if not active or not set(active) <= PHASES or normalize not in ("mean", "batch"):
        raise ValueError(f"active {active!r} or normalize {normalize!r} is none that a weighting can have")
    reads = names_read(type(weighting).weights) or set()
    wants = getattr(weighting, "needs_original", bool(reads & {"original", "original_losses"}))
    unseen = getattr(weighting, "needs_validation", bool(reads & {"unseen", "unseen_probabilities"}))
    score: Literal["current", "original"] = "original" if wants else "current"
    rule = Rule(weighting.weights, normalize, score, weighting.name, bool(unseen))  # type: ignore[arg-type]
    return dict.fromkeys(active, rule)


def names_read(function: Any) -> set[str] | None:
    """The names that a function's code reads, as far as its own code and that within it shows; None: it has none to read."""
    found, waiting = set[str](), [getattr(inspect.unwrap(function), "__code__", None)]
    while waiting:
        code = waiting.pop()
        if code is None:
            return None
        found.update(code.co_names, code.co_freevars)
        waiting += [each for each in code.co_consts if isinstance(each, types.CodeType)]
    return found
