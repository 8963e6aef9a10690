"""One phase of a gradient method under way: its pictures, their losses, and how these are weighted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from loreun_bench.classification.data.images import Augment
from loreun_bench.ops import loreun_cross_entropy, loreun_losses, loreun_weights
from loreun_bench.training.loop import autocast
from loreun_bench.training.tally import WeightTally
from loreun_bench.weightings import Batch, Phase, Rule

if TYPE_CHECKING:
    from loreun_bench.classification.unlearning.method import Context, Data, ImageSet

EVALUATION_BATCH = 1000


@dataclass
class PhaseRun:
    """A phase: its samples, the labels optimised in this pass, and how its losses are weighted."""

    name: str
    method: Any  # the GradientMethod, whose file needs this one
    samples: ImageSet
    targets: Tensor
    scale: float
    weight: Phase | Rule | None
    context: Context
    original_losses: Tensor | None = None
    unseen: Tensor | None = None
    epoch: int = -1  # the pass under way, and the steps that are done
    step: int = 0
    tally: WeightTally = field(default_factory=WeightTally)

    def pictures(self, positions: Tensor) -> Tensor:
        """The samples at `positions`, augmented, [n, C, H, W]."""
        recipe, context = self.context.recipe, self.context
        augment = Augment.of(recipe)
        return self.samples.images.batch(self.samples.index[positions], augment, context.stream("augment", self.name))

    def loss(self, x: Tensor, logits: Tensor, positions: Tensor) -> Tensor:
        """The weighted loss of the samples at `positions`, of which these are pictures and logits. Uniform weights of the
        cross entropy are the same call with eta = 0."""
        self.context.meter.forward_samples += len(positions)
        self.context.meter.backward_samples += len(positions)
        targets, labels, weight = self.targets[positions], self.samples.labels[positions], self.weight
        static = None if self.original_losses is None else self.original_losses[positions]
        own: Tensor | None = self.method.losses(self.name, x, logits, targets, self.context)
        if own is not None and weight is None:
            loss: Tensor = own.mean()
        elif own is not None or isinstance(weight, Rule):
            loss = self._by_rows(own, logits, targets, labels, static)
        elif weight is None:
            loss = loreun_cross_entropy(logits, targets, labels, eta=0.0, direction="forget")
        else:
            score = labels if static is None else None
            loss, told = loreun_cross_entropy(
                logits, targets, score, score_loss=static, eta=weight.eta, direction=weight.direction, return_stats=True
            )
            self.tally.add(self.epoch, told.weights)
        self.step += 1
        return loss if self.scale == 1.0 else self.scale * loss

    def state_dict(self) -> dict[str, Any]:
        """What steps change: the epoch is that of the batches."""
        return {"step": self.step, "targets": self.targets, "tally": self.tally.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on."""
        self.step, self.targets = state_dict["step"], state_dict["targets"].to(self.samples.labels.device)
        self.tally.load_state_dict(state_dict["tally"])

    def _by_rows(
        self, own: Tensor | None, logits: Tensor, targets: Tensor, labels: Tensor, static: Tensor | None
    ) -> Tensor:
        """Where the objective is the method's, or the weights a function's. The score is the clean cross entropy."""
        if own is None:
            losses = loreun_losses(logits, targets, labels)
            objective, clean = losses.objective, losses.score.detach()
        else:
            objective, clean = own, nn.functional.cross_entropy(logits.detach().float(), labels, reduction="none")
        if isinstance(self.weight, Phase):
            scores = clean if static is None else static
            weights = loreun_weights(scores, eta=self.weight.eta, direction=self.weight.direction)
        else:
            assert self.weight is not None
            weights = self.weight.of(
                Batch(
                    clean, objective.detach(), labels, logits.detach(), self.name, self.epoch, self.step, static,
                    generator=self.context.stream("weighting", self.name), unseen=self.unseen,
                )
            )  # fmt: skip
        self.tally.add(self.epoch, weights)
        return (weights * objective).sum()


def begin(name: str, method: Any, model: nn.Module, data: Data, context: Context) -> PhaseRun:
    """A phase before its first step; what a weighting asks of the model as it is, is measured now."""
    samples: ImageSet = getattr(data, name)
    weight = context.phases.get(name)
    run = PhaseRun(name, method, samples, samples.labels, getattr(method, f"{name}_scale"), weight, context)
    if weight is not None and weight.score == "original":
        run.original_losses = losses_of(model, samples, context)
    if isinstance(weight, Rule) and weight.validation:
        kept = data.validation
        run.unseen = _of_classes(torch.exp(-losses_of(model, kept, context)), kept.labels, data.classes)
    return run


def losses_of(model: nn.Module, samples: ImageSet, context: Context) -> Tensor:
    """Per-sample cross entropy [n] in evaluation mode, without augmentation; counted by the meter."""
    training = model.training
    model.eval()
    parts = []
    with torch.no_grad(), autocast(context.device, context.precision):
        for positions in torch.arange(len(samples), device=context.device).split(EVALUATION_BATCH):
            logits = model(samples.images.batch(samples.index[positions])).float()
            parts.append(nn.functional.cross_entropy(logits, samples.labels[positions], reduction="none"))
    context.meter.forward_samples += len(samples)
    model.train(training)
    return torch.cat(parts)


def _of_classes(values: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Mean and standard deviation by class [2, classes]; of all classes together where one has fewer than two values."""
    one_hot = nn.functional.one_hot(labels, classes).to(values.dtype)
    count = one_hot.sum(0)
    mean = (values @ one_hot) / count
    deviation = (((values - mean.nan_to_num()[labels]).square() @ one_hot) / (count - 1)).sqrt()
    few = count < 2
    return torch.stack([torch.where(few, values.mean(), mean), torch.where(few, values.std(), deviation)])
