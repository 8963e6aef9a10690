"""Guards against training on after a loss or a parameter stopped being finite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from loreun_bench.errors import Diverged, UserError


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

    def state_dict(self) -> dict[str, Any]:
        """The sum so far, and of how many steps."""
        return {"steps": self._steps, "sum": self._sum}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Watch on."""
        self._steps, self._sum = state_dict["steps"], state_dict["sum"]


def check_parameters(parameters: Iterable[Tensor]) -> None:
    """Raises Diverged if a parameter is NaN or infinite."""
    norms = torch._foreach_norm([p.detach() for p in parameters])
    if not bool(torch.isfinite(torch.stack([n.float() for n in norms])).all()):
        raise Diverged("a parameter became NaN or infinite; try a smaller lr")


def checked_model(found: Any) -> nn.Module:
    """What `unlearn` returned, if it is a model. UserError otherwise."""
    if not isinstance(found, nn.Module):
        raise UserError(f"unlearn returned {type(found).__name__}, not the model: end it with `return model`")
    return found


def checked_weights(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> str:
    """A note if unlearning moved nothing. UserError if its weights do not fit the model that it began with; Diverged if
    one of them, or of what else the model keeps, is NaN or infinite."""
    odd = sorted(before.keys() ^ after.keys()) or [k for k in before if after[k].shape != before[k].shape]
    if odd:
        raise UserError(f"unlearn left a model of another architecture ('{odd[0]}'): its weights cannot be loaded again")
    check_finite(after, "unlearn left")
    return "" if any(not torch.equal(after[k], before[k]) for k in before) else ", but the weights did not move"


def check_finite(tensors: Mapping[str, Tensor], what: str) -> None:
    """Raises Diverged, which begins with `what`, if a value is NaN or infinite."""
    for name, tensor in tensors.items():
        if (tensor.is_floating_point() or tensor.is_complex()) and not bool(torch.isfinite(tensor).all()):
            raise Diverged(f"{what} values that are NaN or infinite ('{name}'); try a smaller lr")


def checked_in_place(found: Any, given: Any) -> None:
    """UserError if `unlearn`, which is to change what it is given, returned something else in its place."""
    if found is not None and found is not given:
        raise UserError(f"unlearn returned a {type(found).__name__}, which nothing uses: change the given pipeline in place")
