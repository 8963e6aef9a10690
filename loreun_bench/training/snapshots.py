"""A loop under way, kept every few minutes: a stage that was killed goes on from there and ends the same, bit for bit.

What is made before the steps (teachers, masks, reference losses) is made again; batches are drawn again and not trained on;
then everything that steps change is put back.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Sized
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from loreun_bench.harness import resuming

if TYPE_CHECKING:
    from loreun_bench.training.context import RunContext

OURS = ("loreun_bench", "builtins", "abc", "typing")
PLAIN = (bool, int, float, complex, str, type(None))


class Stateful(Protocol):
    """Something that changes from step to step, in torch's terms."""

    def state_dict(self) -> dict[str, Any]:
        """All of it: tensors, numbers, text, and dictionaries, lists and tuples of these."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any:
        """Be as it was."""
        ...


def resumable(*items: Any) -> bool:
    """Whether a stage with this method and weighting may go on from a checkpoint: if the classes are all of this package,
    or each other says `resumable = True` itself: what its steps change is in the model, or moved by the optimiser, or drawn
    from the context's streams, or in `context.kept`."""
    return all(_ours(cls) or vars(cls).get("resumable") is True for item in items for cls in type(item).__mro__)


def _ours(cls: type) -> bool:
    return cls.__module__.partition(".")[0] in OURS


class Snapshots:
    """Of one loop. parts: what its steps change, beside the model, the optimiser and what the context has."""

    def __init__(self, context: RunContext, **parts: Stateful) -> None:
        self._context = context
        self._parts: dict[str, Stateful] = {**parts, "context": context, "random": _Random(context.device)}
        self._loop = resuming.next_loop() if context.resumable else 0

    def begin(self, model: nn.Module, batches: Iterator[Any], **parts: Stateful | None) -> int:
        """Go on from a checkpoint if there is one; how many batches are done and taken from `batches`. Raises Stale if what
        was kept is of other batches. parts: more of what the steps change."""
        self._parts |= {name: part for name, part in parts.items() if part is not None}
        self._hidden = _hidden(model) if self._loop else {}
        state = resuming.load(self._loop) if self._loop else None
        if state is None:
            return 0
        with self._context.meter.paused():
            try:
                self._restore(state, batches)
            except Exception as error:
                raise resuming.Stale from error
            done: int = state["done"]
        state.clear()
        self._context.meter.go_on(resuming.resumed())
        return done

    def after(self, model: nn.Module, done: int, batch: Any) -> None:
        """Called when `done` steps are, the last with this batch: keeps a checkpoint if it is time. None of a model that has
        come to keep something outside its parameters and buffers, which a checkpoint would lose."""
        if not self._loop or not resuming.due() or _hidden(model) != self._hidden:
            return
        meter = self._context.meter
        with meter.paused():
            spent = {"meter": meter.state_dict()}  # first: the clock does not stand still
            parts = {name: part.state_dict() for name, part in self._parts.items()}
            resuming.save(self._loop, {"done": done, "batch": [t.clone() for t in _tensors(batch)], **spent, **parts})

    def _restore(self, state: dict[str, Any], batches: Iterator[Any]) -> None:
        self._context.replaying = True
        drawn = deque(islice(batches, state["done"]), maxlen=1)
        self._context.replaying = False
        pairs = zip(_tensors(list(drawn)), state["batch"], strict=True)
        if not all(torch.equal(found.cpu(), kept) for found, kept in pairs):
            raise ValueError("the batches are others")
        for name, part in {**self._parts, "meter": self._context.meter}.items():
            part.load_state_dict(state[name])


def _hidden(model: nn.Module) -> dict[tuple[str, str], Any]:
    """What a model keeps in attributes of its own, as far as it can be seen whether that changes."""
    found: dict[tuple[str, str], Any] = {}
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            if isinstance(value, Tensor):
                found[name, key] = id(value), value._version
            elif isinstance(value, PLAIN):
                found[name, key] = value
            elif isinstance(value, Sized):
                found[name, key] = id(value), len(value)
    return found


def _tensors(batch: Any) -> list[Tensor]:
    """Those that a batch consists of."""
    if isinstance(batch, Tensor):
        return [batch]
    if isinstance(batch, dict):
        batch = list(batch.values())
    return [tensor for part in batch for tensor in _tensors(part)] if isinstance(batch, (list, tuple)) else []


class Weights:
    """A model's parameters and buffers, and whatever else its optimiser moves."""

    def __init__(self, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        self._model, self._optimiser = model, optimiser

    def state_dict(self) -> dict[str, Any]:
        """By name, those that no state of the model has, too."""
        own: dict[str, Tensor] = {**dict(self._model.named_parameters()), **dict(self._model.named_buffers())}
        known = {id(tensor) for tensor in own.values()}
        moved = [p for group in self._optimiser.param_groups for p in group["params"] if id(p) not in known]
        return {name: t.detach() for name, t in (own | {f"moved {k}": p for k, p in enumerate(moved)}).items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """In place, as masks hold on to the tensors."""
        now = self.state_dict()
        if now.keys() != state_dict.keys():
            raise ValueError("the model is another")
        for name, tensor in now.items():
            tensor.copy_(state_dict[name])


class _Random:
    """The global generators, which dropout and some networks draw from."""

    def __init__(self, device: str) -> None:
        self._device = device

    def state_dict(self) -> dict[str, Any]:
        numpy: Any = np.random.get_state()
        return {
            "python": random.getstate(), "numpy": [numpy[0], numpy[1].tolist(), *numpy[2:]],
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state() if self._device == "cuda" else None,
        }  # fmt: skip

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        random.setstate(state_dict["python"])
        np.random.set_state(tuple(state_dict["numpy"]))
        torch.set_rng_state(state_dict["torch"])
        if state_dict["cuda"] is not None:
            torch.cuda.set_rng_state(state_dict["cuda"])
