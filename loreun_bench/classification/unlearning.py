"""The gradient loop of the unlearning methods: phases × weighting, through the one step loop and the one operator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from loreun_bench.classification.images import Augment
from loreun_bench.ops import loreun_cross_entropy
from loreun_bench.training.loop import autocast, epoch, run_steps
from loreun_bench.training.optimiser import make_optimiser

if TYPE_CHECKING:
    from loreun_bench.classification.method import Context, Data, GradientMethod, ImageSet
    from loreun_bench.weightings import Phase

EVALUATION_BATCH = 1000


@dataclass
class PhaseRun:
    """One phase under way: its samples, the labels optimised in this pass, and how its losses are weighted."""

    name: str
    samples: ImageSet
    targets: Tensor
    scale: float
    weight: Phase | None
    original_losses: Tensor | None
    context: Context
    augment: Augment

    def loss(self, model: nn.Module, positions: Tensor) -> Tensor:
        """The weighted loss of the samples at `positions`. Uniform weights are the same call with eta = 0."""
        context, samples = self.context, self.samples
        x = samples.images.batch(samples.index[positions], self.augment, context.stream("augment", self.name))
        with autocast(context.device, context.precision):
            logits = model(x)
        context.meter.forward_samples += len(positions)
        context.meter.backward_samples += len(positions)
        static = self.original_losses
        loss: Tensor = loreun_cross_entropy(
            logits,
            self.targets[positions],
            samples.labels[positions] if static is None else None,
            score_loss=None if static is None else static[positions],
            eta=self.weight.eta if self.weight else 0.0,
            direction=self.weight.direction if self.weight else "forget",
        )
        return loss if self.scale == 1.0 else self.scale * loss


Step = list[tuple[PhaseRun, Tensor]]


def descend(method: GradientMethod, model: nn.Module, data: Data, context: Context) -> nn.Module:
    """Run `method`'s phases on `model` in place. Raises Diverged if a loss or parameter stops being finite."""
    runs = {name: _phase(name, method, model, data, context) for name in method.active()}
    constraint = method.constraint(model, data, context)
    model.train()
    if method.freeze_batchnorm:
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
    optimiser = make_optimiser(model.parameters(), method.optimizer, method.lr, method.momentum, method.weight_decay)

    def objective(step: Step) -> Tensor:
        losses = [run.loss(model, positions) for run, positions in step]
        return losses[0] if len(losses) == 1 else losses[0] + losses[1]

    paired = method.schedule == "paired" and len(runs) == 2
    steps = (_paired if paired else _sequential)(method, runs, data, context)
    passes = [-(-len(run.samples) // method.batch_size) for run in runs.values()]
    total = method.epochs * (passes[-1] if paired else sum(passes))  # the retain phase is the last
    steps = islice(steps, context.limit_steps)
    run_steps(model, steps, objective, optimiser, constraint=constraint, total=min(total, context.limit_steps or total))
    return model


def losses_of(model: nn.Module, samples: ImageSet, context: Context) -> Tensor:
    """Per-sample cross entropy [n] in evaluation mode, without augmentation; counted by the meter."""
    training = model.training
    model.eval()
    parts = []
    with torch.inference_mode(), autocast(context.device, context.precision):
        for positions in torch.arange(len(samples), device=context.device).split(EVALUATION_BATCH):
            logits = model(samples.images.batch(samples.index[positions])).float()
            parts.append(nn.functional.cross_entropy(logits, samples.labels[positions], reduction="none"))
    context.meter.forward_samples += len(samples)
    model.train(training)
    return torch.cat(parts).clone()


def _phase(name: str, method: GradientMethod, model: nn.Module, data: Data, context: Context) -> PhaseRun:
    samples: ImageSet = getattr(data, name)
    weight = context.phases.get(name)
    static = losses_of(model, samples, context) if weight is not None and weight.score == "original" else None
    scale = method.forget_scale if name == "forget" else method.retain_scale
    augment = Augment(context.recipe.crop, context.recipe.flip)
    return PhaseRun(name, samples, samples.labels, scale, weight, static, context, augment)


def _pass(run: PhaseRun, method: GradientMethod, data: Data, context: Context) -> Iterator[tuple[PhaseRun, Tensor]]:
    """One pass over a phase's samples, each once, with new labels to optimise if it is the forget phase."""
    if run.name == "forget":
        run.targets = method.forget_targets(run.samples.labels, data, context)
    for positions in epoch(len(run.samples), method.batch_size, context.stream("order", run.name)):
        yield run, positions


def _sequential(method: GradientMethod, runs: dict[str, PhaseRun], data: Data, context: Context) -> Iterator[Step]:
    for _ in range(method.epochs):
        for run in runs.values():
            for part in _pass(run, method, data, context):
                yield [part]


def _paired(method: GradientMethod, runs: dict[str, PhaseRun], data: Data, context: Context) -> Iterator[Step]:
    def cycle() -> Iterator[tuple[PhaseRun, Tensor]]:
        while True:
            yield from _pass(runs["forget"], method, data, context)

    forget = cycle()
    for _ in range(method.epochs):
        for part in _pass(runs["retain"], method, data, context):
            yield [next(forget), part]
