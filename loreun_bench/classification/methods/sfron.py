"""SFR-on: salient ascent on weighted forget losses, now and then between retain steps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt

from loreun_bench.classification.unlearning.gradient import GradientMethod, cycle
from loreun_bench.classification.unlearning.method import Context, Data
from loreun_bench.decorators import method

if TYPE_CHECKING:
    from torch import Tensor, nn

    from loreun_bench.classification.unlearning.gradient import Runs, Step


@method("SFR-on", uses={"forget", "retain"}, paper="Huang et al., NeurIPS 2024")
@dataclass(frozen=True)
class SalientForgetting(GradientMethod):
    """`steps_taken` retain steps; before every `every`-th one of ascent on the forget set, of the weights that matter to it
    `gamma` times as much as to the retain set, its gradient clipped to the norm `clip`.

    The ascent's factor falls from `alpha` to 0 by a cosine, as the learning rate does. The paper's method is this with the
    weighting `sfron`.
    """

    steps_taken: Annotated[int, Ge(1)] = 1500
    every: Annotated[int, Ge(1)] = 5
    alpha: Annotated[float, Gt(0)] = 25.0
    gamma: Annotated[float, Gt(0)] = 1.0
    clip: Annotated[float, Gt(0)] = 7.0
    batch_size: Annotated[int, Ge(2)] = 128
    lr_schedule: Literal["constant", "cosine", "triangle"] = "cosine"

    def constraint(self, model: nn.Module, data: Data, context: Context) -> Any:
        """The mask, which holds for ascents alone."""
        from loreun_bench.classification.unlearning.evaluating import importances, moving

        forget, retain = (importances(model, part, context, self.batch_size) for part in (data.forget, data.retain))
        masks = [(f >= self.gamma * r).to(f.dtype) for f, r in zip(forget, retain, strict=True)]
        context.prepared = _Ascent(moving(model), masks, self.clip)
        return context.prepared

    def steps(self, runs: Runs, data: Data, context: Context) -> Iterator[Step]:
        """An ascent, then `every` retain steps, and so on."""
        forget, retain = (cycle(runs[name], data, context) for name in ("forget", "retain"))
        for number in range(self.steps_taken):
            if number % self.every == 0:
                runs["forget"].scale = -self.alpha * (1 + math.cos(math.pi * number / self.steps_taken)) / 2
                context.prepared.ascends = True
                yield [next(forget)]
            context.prepared.ascends = False
            yield [next(retain)]

    def count(self, sizes: Mapping[str, int]) -> int:
        """Of both kinds."""
        return self.steps_taken + -(-self.steps_taken // self.every)

    def samples(self, sizes: Mapping[str, int]) -> int:
        """Those of the steps, and of the mask."""
        ascents = -(-self.steps_taken // self.every) * min(self.batch_size, sizes["forget"])
        return sizes["forget"] + sizes["retain"] + ascents + self.steps_taken * min(self.batch_size, sizes["retain"])


class _Ascent:
    """Masks and clips the gradient of an ascent; a retain step's stays."""

    def __init__(self, parameters: Any, masks: list[Tensor], clip: float) -> None:
        self.parameters, self.masks, self.clip, self.ascends = list(parameters), masks, clip, False

    def before_step(self) -> None:
        """The mask, then the norm."""
        import torch

        if self.ascends:
            pairs = [(p.grad, m) for p, m in zip(self.parameters, self.masks, strict=True) if p.grad is not None]
            torch._foreach_mul_([g for g, _ in pairs], [m for _, m in pairs])
            torch.nn.utils.clip_grad_norm_(self.parameters, self.clip)

    def after_step(self) -> None:
        """Momentum moves what it moves, as in the authors' code."""
