"""Training a classifier from scratch: the original model and every retrained one, by the same recipe."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from loreun_bench.classification.data.images import Augment
from loreun_bench.classification.models.layers import PIXELS, Whitening
from loreun_bench.classification.scoring.evaluation import predict
from loreun_bench.classification.unlearning.method import LEAST
from loreun_bench.ops import loreun_cross_entropy
from loreun_bench.training.loop import autocast, cuts, epoch, run_steps
from loreun_bench.training.optimiser import biases_apart, make_optimiser, make_schedule
from loreun_bench.training.snapshots import Snapshots

if TYPE_CHECKING:
    from loreun_bench.classification.config import Recipe
    from loreun_bench.classification.unlearning.method import Context, ImageSet


def fit(model: nn.Module, samples: ImageSet, select_on: ImageSet | None, context: Context) -> nn.Module:
    """Train `model` on `samples` by `context.recipe` and return it as after the last epoch.

    select_on: if given, return it as after the epoch with the best accuracy there (protocol `paper`, original model).
    """
    recipe = context.recipe
    steps_per_epoch = len(cuts(len(samples), recipe.batch_size, LEAST))
    steps = min(recipe.epochs * steps_per_epoch, context.limit_steps or 2**62)
    _begin(model, samples)
    groups = biases_apart(model, recipe.lr, recipe.weight_decay, recipe.bias_lr)
    optimiser = make_optimiser(
        groups, recipe.optimizer, recipe.lr, recipe.momentum, recipe.weight_decay, recipe.nesterov
    )
    schedule = make_schedule(optimiser, recipe.schedule, steps, steps_per_epoch, recipe.milestones, recipe.gamma)
    augment, flips = Augment.of(recipe), _Flips(recipe, len(samples), context)

    def objective(positions: Tensor) -> Tensor:
        draw = context.stream("augment")
        x = samples.images.batch(samples.index[positions], augment, draw, flips.of(positions))
        with autocast(context.device, context.precision):
            logits = model(x)
        context.meter.forward_samples += len(positions)
        context.meter.backward_samples += len(positions)
        loss: Tensor = loreun_cross_entropy(
            logits, samples.labels[positions], eta=0.0, direction="retain", label_smoothing=recipe.label_smoothing
        )
        return loss

    best = _Best(model, select_on, context) if select_on is not None else None

    def batches() -> Iterator[Tensor]:
        for number in range(recipe.epochs):
            if best is not None and number > 0 and not context.replaying:
                best.look()
            flips.epoch = number
            yield from epoch(len(samples), recipe.batch_size, context.stream("order"), LEAST)

    model.train()
    snapshots = Snapshots(context, **({} if best is None else {"best": best}))
    run_steps(model, islice(batches(), steps), objective, optimiser, schedule, total=steps, snapshots=snapshots)
    if best is not None:
        best.look()
        best.restore()
    return model


def _begin(model: nn.Module, samples: ImageSet) -> None:
    """Show layers that begin with images some of those that the model is trained on, from first to last."""
    for layer in model.modules():
        if isinstance(layer, Whitening):
            height, width, _ = samples.images.shape
            every = max(1, len(samples) * height * width // PIXELS)
            layer.begin(samples.images.batch(samples.index[::every]))


class _Flips:
    """Which images are flipped by turns: at random half of them in the first epoch, the others in the next (Jordan 2024,
    arXiv 2404.00498, section 3.6)."""

    def __init__(self, recipe: Recipe, count: int, context: Context) -> None:
        self.epoch = 0
        self._first: Tensor | None = None
        if recipe.flip == "alternating":
            draw = context.stream("flip")
            self._first = torch.rand(count, generator=draw, device=draw.device) < 0.5

    def of(self, positions: Tensor) -> Tensor | None:
        """bool [B]; None if flips are not by turns."""
        return None if self._first is None else self._first[positions] ^ bool(self.epoch % 2)


class _Best:
    """Keeps the weights of the epoch with the highest accuracy; its evaluations are outside the clock."""

    def __init__(self, model: nn.Module, samples: ImageSet, context: Context) -> None:
        self._model, self._samples, self._context = model, samples, context
        self._accuracy, self._weights = -1.0, {k: v.clone() for k, v in model.state_dict().items()}

    def look(self) -> None:
        """Evaluate the model as it is."""
        forward = self._context.meter.forward_samples
        with self._context.meter.paused():
            accuracy = accuracy_of(self._model, self._samples)
        self._context.meter.forward_samples = forward
        if accuracy > self._accuracy:
            self._accuracy = accuracy
            self._weights = {k: v.clone() for k, v in self._model.state_dict().items()}

    def restore(self) -> None:
        """Put the best weights back."""
        self._model.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        """The best so far."""
        return {"accuracy": self._accuracy, "weights": self._weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Look on."""
        self._accuracy, self._weights = state_dict["accuracy"], state_dict["weights"]


def accuracy_of(model: nn.Module, samples: ImageSet) -> float:
    """Share of `samples` classified as labelled, in evaluation mode."""
    training = model.training
    hits = predict(model, samples.images, samples.index).argmax(1) == samples.labels.cpu()
    model.train(training)
    return float(hits.float().mean())
