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
    from torch import nn

    from loreun_bench.classification.unlearning.gradient import Runs, Step


@method("SFR-on", uses={"forget", "retain"}, paper="Huang et al., NeurIPS 2024")
@dataclass(frozen=True)
class SalientForgetting(GradientMethod):
    """Before every `every`-th of `steps_taken` retain steps an ascent, factor `alpha` falling to 0 by a cosine, of weights
    that matter to the forget set `gamma` times as much, gradient cut to `clip`. The paper's: with the weighting `sfron`."""

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
        from loreun_bench.training.constraints import Clip, GradientMask, Sometimes

        both = (importances(model, part, context, self.batch_size) for part in (data.forget, data.retain))
        masks = [f + 1e-15 >= self.gamma * (r + 1e-15) for f, r in zip(*both, strict=True)]  # not where neither matters
        context.prepared = Sometimes(GradientMask(moving(model), masks), Clip(moving(model), self.clip))
        return context.prepared

    def steps(self, runs: Runs, data: Data, context: Context) -> Iterator[Step]:
        """An ascent, then `every` retain steps, and so on."""
        forget, retain = (cycle(runs[name], data, context) for name in ("forget", "retain"))
        for number in range(self.steps_taken):
            runs["forget"].scale = -self.alpha * (1 + math.cos(math.pi * number / self.steps_taken)) / 2
            for context.prepared.on in (True, False) if number % self.every == 0 else (False,):
                yield [next(forget if context.prepared.on else retain)]

    def count(self, sizes: Mapping[str, int]) -> int:
        """Of both kinds."""
        return self.steps_taken + math.ceil(self.steps_taken / self.every)

    def samples(self, sizes: Mapping[str, int]) -> int:
        """Those of the steps, and of the mask."""
        return sizes["forget"] + sizes["retain"] + self.count(sizes) * self.batch_size
