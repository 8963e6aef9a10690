"""Gradient methods that turn a forgotten concept into another one, its anchor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from loreun_bench.errors import UserError
from loreun_bench.generation.unlearning.gradient import GradientMethod
from loreun_bench.generation.unlearning.method import Asked, Data

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from loreun_bench.generation.data.latents import LatentSet


@dataclass(frozen=True)
class Anchored(GradientMethod):
    """The forget phase passes over pictures of kept concepts and asks with a forgotten concept's prompt.

    anchor: the prompt of the kept concept; "" takes for each forgotten concept the next one that is kept. An epoch is one
    pass over the anchors' pictures.
    """

    anchor: str = ""

    def check(self, asked: Asked) -> None:
        """UserError if the anchor is no kept concept's prompt."""
        kept = [prompt for number, prompt in enumerate(asked.prompts) if number not in asked.forgotten]
        if self.anchor and self.anchor not in kept:
            near = ", ".join(kept[:5])
            raise UserError(f"methods.{self.name}.anchor: {self.anchor!r} is none of the kept prompts: {near}")

    def pictures(self, phase: str, data: Data) -> LatentSet:
        """Of the anchors in the forget phase."""
        import torch

        return data.retain.showing(torch.tensor(list(self._pairs(data)))) if phase == "forget" else data.retain

    def prompts(self, phase: str, concepts: Tensor, data: Data) -> Tensor:
        """In the forget phase a concept that the picture's is the anchor of; of several, in turn."""
        import torch

        if phase != "forget":
            return concepts
        pairs = self._pairs(data)
        turns = torch.tensor([[of[k % len(of)] for k in range(len(data.forgotten))] if (of := pairs.get(number)) else
                              [number] * len(data.forgotten) for number in range(len(data.prompts))])  # fmt: skip
        rows = torch.arange(len(concepts), device=concepts.device) % len(data.forgotten)
        return turns.to(concepts.device)[concepts, rows]

    def samples(self, sizes: Mapping[str, int]) -> int:
        """Two predictions a picture of the anchor, which is taken for as many as are forgotten, one a kept one."""
        return self.epochs * sizes["forget"] * 3

    def _pairs(self, data: Data) -> dict[int, list[int]]:
        """By anchor, the forgotten concepts that it stands for."""
        pairs: dict[int, list[int]] = {}
        for number in data.forgotten:
            own = data.prompts.index(self.anchor) if self.anchor else data.others(number)[0]
            pairs.setdefault(own, []).append(number)
        return pairs
