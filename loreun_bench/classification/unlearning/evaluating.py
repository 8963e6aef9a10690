"""Gradients and losses of a whole set in evaluation mode, without augmentation, for methods that look before they move."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from loreun_bench.classification.unlearning.phase import EVALUATION_BATCH
from loreun_bench.training.importance import mean_squared_gradients
from loreun_bench.training.loop import autocast, epoch

if TYPE_CHECKING:
    from loreun_bench.classification.data.images import Augment
    from loreun_bench.classification.unlearning.method import Context, ImageSet

Loss = Callable[[Tensor, Tensor], Tensor]  # of logits [n, C] and labels [n]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Its mean."""
    return nn.functional.cross_entropy(logits, labels)


def summed(logits: Tensor, labels: Tensor) -> Tensor:
    """The cross entropy's sum."""
    return nn.functional.cross_entropy(logits, labels, reduction="sum")


def importances(
    model: nn.Module, samples: ImageSet, context: Context, batch_size: int, loss: Loss = cross_entropy, power: int = 2
) -> list[Tensor]:
    """Mean over batches of |gradient of the loss|^power, a tensor a parameter that moves. `model` is left in evaluation
    mode; the samples are counted. Batches come in a random order of the set, the same for every method."""
    model.eval()
    order = context.stream("order", "importance")

    def of(positions: Tensor) -> Tensor:
        return loss(logits_of(model, samples, positions, context), samples.labels[positions])

    return mean_squared_gradients(moving(model), epoch(len(samples), batch_size, order), of, power)


def gradient_sum(
    model: nn.Module, samples: ImageSet, context: Context, batches: Iterable[Tensor], loss: Loss = summed,
    augment: Augment | None = None,
) -> list[Tensor]:  # fmt: skip
    """The gradient of `loss`, summed over batches of positions, a tensor a parameter that moves; counted."""
    model.eval()
    total = [torch.zeros_like(p) for p in moving(model)]
    for positions in batches:
        value = loss(logits_of(model, samples, positions, context, augment), samples.labels[positions])
        found = torch.autograd.grad(value, moving(model), allow_unused=True, materialize_grads=True)
        torch._foreach_add_(total, list(found))
    return total


def in_order(samples: ImageSet, size: int) -> Sequence[Tensor]:
    """All positions of a set, in batches."""
    batches: Sequence[Tensor] = torch.arange(len(samples), device=samples.index.device).split(size)
    return batches


def attacked(model: nn.Module, samples: ImageSet, epsilon: float, context: Context) -> Iterator[Tensor]:
    """The classes [n], batch by batch, that the model sees in pictures changed by one signed gradient step of `epsilon`, in
    units of the full range of a pixel, against their labels; counted."""
    model.eval()
    for positions in in_order(samples, EVALUATION_BATCH):
        x = samples.images.batch(samples.index[positions]).requires_grad_(True)
        with autocast(context.device, context.precision):
            logits = model(x)
        (slope,) = torch.autograd.grad(cross_entropy(logits.float(), samples.labels[positions]), x)
        with torch.no_grad(), autocast(context.device, context.precision):
            yield model(samples.images.moved(x.detach(), epsilon * slope.sign())).argmax(1)
        context.meter.forward_samples += 2 * len(positions)
        context.meter.backward_samples += len(positions)


def error_of(model: nn.Module, samples: ImageSet, context: Context) -> float:
    """The share of samples that are classified otherwise than labelled; counted."""
    model.eval()
    wrong = 0
    with torch.no_grad():
        for positions in in_order(samples, EVALUATION_BATCH):
            with autocast(context.device, context.precision):
                found = model(samples.images.batch(samples.index[positions])).argmax(1)
            wrong += int((found != samples.labels[positions]).sum())
    context.meter.forward_samples += len(samples)
    return wrong / max(len(samples), 1)


def of_classes(samples: ImageSet, classes: Tensor) -> ImageSet:
    """The samples with one of these labels."""
    kept = torch.isin(samples.labels, classes)
    return replace(samples, index=samples.index[kept], labels=samples.labels[kept])


def part_of(samples: ImageSet, count: int, generator: torch.Generator) -> ImageSet:
    """So many of the samples, drawn at random; all, if there are fewer."""
    chosen = torch.randperm(len(samples), generator=generator, device=samples.index.device)[:count]
    return replace(samples, index=samples.index[chosen], labels=samples.labels[chosen])


def joined(first: ImageSet, second: ImageSet) -> ImageSet:
    """Both sets as one."""
    return replace(
        first, index=torch.cat([first.index, second.index]), labels=torch.cat([first.labels, second.labels])
    )


def logits_of(
    model: nn.Module, samples: ImageSet, positions: Tensor, context: Context, augment: Augment | None = None
) -> Tensor:
    """In float32 [n, C], with gradient; counted forward and backward."""
    x = samples.images.batch(samples.index[positions], augment, context.stream("augment", "mask"))
    with autocast(context.device, context.precision):
        logits: Tensor = model(x)
    context.meter.forward_samples += len(positions)
    context.meter.backward_samples += len(positions)
    return logits.float()


def moving(model: nn.Module) -> Sequence[nn.Parameter]:
    """The parameters that a gradient flows to."""
    return [p for p in model.parameters() if p.requires_grad]
