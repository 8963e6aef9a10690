"""Guards against training on after a loss or a parameter stopped being finite."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from loreun_bench.errors import Diverged


class FiniteGuard:
    """Watches losses without stopping the device: the verdict is read every `every` steps and at the end."""

    def __init__(self, every: int = 50) -> None:
        self._every = every
        self._steps = 0
        self._sum: Tensor | None = None

    def watch(self, loss: Tensor) -> None:
        """Take in one step's loss. Raises Diverged, at the latest `every` steps after it became non-finite."""
        loss = loss.detach()
        self._sum = loss if self._sum is None else self._sum + loss  # NaN and infinity stick
        self._steps += 1
        if self._steps % self._every == 0:
            self.verdict()

    def verdict(self) -> None:
        """Raises Diverged if any watched loss was NaN or infinite."""
        if self._sum is not None and not bool(torch.isfinite(self._sum)):
            raise Diverged(f"the loss became NaN or infinite by step {self._steps}; try a smaller lr")
        self._sum = None


def check_parameters(parameters: Iterable[Tensor]) -> None:
    """Raises Diverged if a parameter is NaN or infinite."""
    norms = torch._foreach_norm([p.detach() for p in parameters])
    if not bool(torch.isfinite(torch.stack([n.float() for n in norms])).all()):
        raise Diverged("a parameter became NaN or infinite; try a smaller lr")
