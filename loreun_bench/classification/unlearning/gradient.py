"""The gradient method and its loop: phases × weighting, through the one step loop and the one operator.

torch is imported when something runs, so that methods can be listed without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Lt

from loreun_bench.classification.unlearning.method import LEAST, Epochs, Method, Rate
from loreun_bench.weightings import Batch, Phase, Rule

if TYPE_CHECKING:
    from torch import Tensor, nn

    from loreun_bench.classification.data.images import Augment
    from loreun_bench.classification.unlearning.method import Context, Data, ImageSet
    from loreun_bench.training.loop import Constraint

EVALUATION_BATCH = 1000


@dataclass(frozen=True)
class GradientMethod(Method):
    """Unlearning by gradient steps on the forget and the retain set; weighting, masks, guards and cost come for free.

    A subclass says how much each phase counts (`forget_scale`, `retain_scale`; 0 leaves it out), which labels the
    forget phase optimises, and, if it wants, a constraint. schedule: "sequential", each epoch one pass over forget and
    then one over retain, as SalUn's code; "paired", each step one batch of both, the forget set cycling (Algorithm 1).
    """

    epochs: Epochs = 10
    lr: Rate = 0.01
    batch_size: Annotated[int, Ge(2)] = 256
    schedule: Literal["sequential", "paired"] = "sequential"
    optimizer: Literal["sgd", "adam"] = "sgd"
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    weight_decay: Annotated[float, Ge(0)] = 5e-4
    freeze_batchnorm: bool = False

    @property
    def forget_scale(self) -> float:
        """The factor of the forget loss: negative ascends."""
        return 1.0

    @property
    def retain_scale(self) -> float:
        """The factor of the retain loss."""
        return 1.0

    def forget_targets(self, labels: Tensor, data: Data, context: Context) -> Tensor:
        """The labels [n] optimised in the next pass over the forget set; `labels` are those to be forgotten."""
        return labels

    def constraint(self, model: nn.Module, data: Data, context: Context) -> Constraint | None:
        """What must hold of the parameters throughout, such as a saliency mask."""
        return None

    def samples(self, sizes: Mapping[str, int]) -> int:
        """Samples passed forward in training, given the size of each set; for the plan's estimate."""
        n_forget = sizes["forget"] if self.forget_scale and "forget" in self.uses else 0
        n_retain = sizes["retain"] if self.retain_scale and "retain" in self.uses else 0
        if self.schedule == "paired" and n_forget and n_retain:
            n_forget = -(-n_retain // self.batch_size) * min(self.batch_size, n_forget)
        return self.epochs * (n_forget + n_retain)

    def unlearn(self, model: nn.Module, data: Data, context: Context) -> nn.Module:
        """Unlearn in place and return the model."""
        return descend(self, model, data, context)

    def active(self) -> Iterator[str]:
        """The phases that this method runs."""
        for phase, scale in (("forget", self.forget_scale), ("retain", self.retain_scale)):
            if scale and phase in self.uses:
                yield phase



@dataclass
class PhaseRun:
    """One phase under way: its samples, the labels optimised in this pass, and how its losses are weighted."""

    name: str
    samples: ImageSet
    targets: Tensor
    scale: float
    weight: Phase | Rule | None
    original_losses: Tensor | None
    context: Context
    augment: Augment
    epoch: int = -1  # the pass under way, and the steps that are done
    step: int = 0

    def loss(self, model: nn.Module, positions: Tensor) -> Tensor:
        """The weighted loss of the samples at `positions`. Uniform weights are the same call with eta = 0."""
        from loreun_bench.ops import loreun_cross_entropy, loreun_losses
        from loreun_bench.training.loop import autocast

        context, samples = self.context, self.samples
        x = samples.images.batch(samples.index[positions], self.augment, context.stream("augment", self.name))
        with autocast(context.device, context.precision):
            logits = model(x)
        context.meter.forward_samples += len(positions)
        context.meter.backward_samples += len(positions)
        targets, labels, weight = self.targets[positions], samples.labels[positions], self.weight
        static = None if self.original_losses is None else self.original_losses[positions]
        if isinstance(weight, Rule):
            losses = loreun_losses(logits, targets, labels)
            seen = (losses.score.detach(), losses.objective.detach(), labels, logits.detach())
            loss = weight.loss(losses, Batch(*seen, self.name, self.epoch, self.step, static))
        else:
            loss = loreun_cross_entropy(
                logits,
                targets,
                labels if static is None else None,
                score_loss=static,
                eta=weight.eta if weight else 0.0,
                direction=weight.direction if weight else "forget",
            )
        self.step += 1
        return loss if self.scale == 1.0 else self.scale * loss


Step = list[tuple["PhaseRun", "Tensor"]]


def descend(method: GradientMethod, model: nn.Module, data: Data, context: Context) -> nn.Module:
    """Run `method`'s phases on `model` in place. Raises Diverged if a loss or parameter stops being finite."""
    from loreun_bench.training.loop import cuts, run_steps
    from loreun_bench.training.optimiser import make_optimiser

    runs = {name: _phase(name, method, model, data, context) for name in method.active()}
    constraint = method.constraint(model, data, context)
    model.train()
    if method.freeze_batchnorm:
        _freeze_batchnorm(model)
    optimiser = make_optimiser(model.parameters(), method.optimizer, method.lr, method.momentum, method.weight_decay)

    def objective(step: Step) -> Tensor:
        losses = [run.loss(model, positions) for run, positions in step]
        return losses[0] if len(losses) == 1 else losses[0] + losses[1]

    paired = method.schedule == "paired" and len(runs) == 2
    steps = (_paired if paired else _sequential)(method, runs, data, context)
    passes = [len(cuts(len(run.samples), method.batch_size, LEAST)) for run in runs.values()]
    total = method.epochs * (passes[-1] if paired else sum(passes))  # the retain phase is the last
    steps = islice(steps, context.limit_steps)
    run_steps(model, steps, objective, optimiser, constraint=constraint, total=min(total, context.limit_steps or total))
    return model


def _freeze_batchnorm(model: nn.Module) -> None:
    from torch.nn.modules.batchnorm import _BatchNorm

    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()


def losses_of(model: nn.Module, samples: ImageSet, context: Context) -> Tensor:
    """Per-sample cross entropy [n] in evaluation mode, without augmentation; counted by the meter."""
    import torch

    from loreun_bench.training.loop import autocast

    training = model.training
    model.eval()
    parts = []
    with torch.no_grad(), autocast(context.device, context.precision):
        for positions in torch.arange(len(samples), device=context.device).split(EVALUATION_BATCH):
            logits = model(samples.images.batch(samples.index[positions])).float()
            parts.append(torch.nn.functional.cross_entropy(logits, samples.labels[positions], reduction="none"))
    context.meter.forward_samples += len(samples)
    model.train(training)
    return torch.cat(parts)


def _phase(name: str, method: GradientMethod, model: nn.Module, data: Data, context: Context) -> PhaseRun:
    from loreun_bench.classification.data.images import Augment

    samples: ImageSet = getattr(data, name)
    weight = context.phases.get(name)
    static = losses_of(model, samples, context) if weight is not None and weight.score == "original" else None
    scale = method.forget_scale if name == "forget" else method.retain_scale
    augment = Augment(context.recipe.crop, context.recipe.flip)
    return PhaseRun(name, samples, samples.labels, scale, weight, static, context, augment)


def _pass(run: PhaseRun, method: GradientMethod, data: Data, context: Context) -> Iterator[tuple[PhaseRun, Tensor]]:
    """One pass over a phase's samples, each once, with new labels to optimise if it is the forget phase."""
    from loreun_bench.training.loop import epoch

    run.epoch += 1
    if run.name == "forget":
        run.targets = method.forget_targets(run.samples.labels, data, context)
    for positions in epoch(len(run.samples), method.batch_size, context.stream("order", run.name), LEAST):
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
