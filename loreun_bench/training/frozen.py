"""Parts of a model that stay as they are: a copy that teaches, batch norm's statistics, all blocks but the last."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from loreun_bench.training.parallel import gathered


def teacher(model: nn.Module) -> nn.Module:
    """A copy of `model` in evaluation mode that nothing trains."""
    return copy.deepcopy(model).eval().requires_grad_(False)


def freeze_batchnorm(model: nn.Module) -> None:
    """Batch norm keeps its running statistics and normalises by them."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()


def blocks(model: nn.Module) -> list[list[nn.Module]]:
    """The parts of a network that have weights, in the order they were registered, the classifier last. A Sequential and a
    ModuleList are their parts; a normalisation is one with the part before it."""
    found: list[list[nn.Module]] = []
    for part in _parts(model):
        if found and not any(weight.dim() > 1 for weight in part.parameters()):
            found[-1].append(part)
        else:
            found.append([part])
    return found


def last_blocks(model: nn.Module, k: int) -> list[nn.Module]:
    """The classifier and the k blocks before it; no gradient flows to any other weight from now on."""
    moving = [part for block in blocks(model)[-(k + 1) :] for part in block]
    model.requires_grad_(False)
    for part in moving:
        part.requires_grad_(True)
    return moving


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    for part in module.children():
        if isinstance(part, nn.Sequential | nn.ModuleList):
            yield from _parts(part)
        elif any(True for _ in part.parameters()):
            yield part


def convolutions(model: nn.Module) -> list[nn.Conv2d]:
    """All two-dimensional ones of the network."""
    return [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]


def classifier(model: nn.Module, classes: int) -> nn.Linear | None:
    """The last linear layer with so many outputs, in the order of registration."""
    found = [each for each in model.modules() if isinstance(each, nn.Linear) and each.out_features == classes]
    return found[-1] if found else None


class FurtherOutput:
    """One more output of a model's classifier, beside it: calling this gives it [n, 1] of the pictures that the model has
    seen last."""

    def __init__(self, model: nn.Module, classes: int, generator: torch.Generator) -> None:
        last = classifier(model, classes)
        assert last is not None
        self.layer = nn.Linear(last.in_features, 1)
        bound = last.in_features**-0.5
        for weight in self.layer.parameters():
            nn.init.uniform_(weight, -bound, bound, generator=generator)
        self.layer.to(last.weight)
        self._seen: Tensor | None = None
        self._hook = last.register_forward_pre_hook(self._look)

    def _look(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._seen = gathered(inputs[0])

    def __call__(self) -> Tensor:
        """Of the latest forward pass."""
        assert self._seen is not None
        found: Tensor = self.layer(self._seen.to(self.layer.weight.dtype))
        return found.flatten(1)

    def remove(self) -> None:
        """Leave the model as it was."""
        self._hook.remove()
