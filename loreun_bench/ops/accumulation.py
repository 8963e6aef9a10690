"""Gradient accumulation: micro-batches that are weighed as the one batch they are parts of."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from loreun_bench.ops import checks, rules
from loreun_bench.ops.rows import Losses


class Accumulation:
    """Weighs all micro-batches together, where a loss of each alone would weigh its rows against its own.

    Weights need every row's score before the first gradient, so that it takes two passes over the micro-batches::

        whole = Accumulation(eta=0.1, direction="forget")
        with torch.no_grad():
            for x, target, clean in micro_batches:
                whole.see(loreun_losses(model(x), target, clean))
        for x, target, clean in micro_batches:
            whole.loss(loreun_losses(model(x), target, clean)).backward()

    The losses add up to that of the whole batch, and so do the gradients; the model must do the same in both passes (random
    augmentation and dropout from the same seed, batch norm frozen). Keywords are those of `loreun_weights`.
    """

    def __init__(
        self, *, eta: float | Tensor | None = None, direction: Any = None, distance: Any = "difference",
        weights: Any = "exp", normalize: Any = "batch", importance: float = 1.0,
    ) -> None:  # fmt: skip
        self._settings = (weights, eta, direction), (distance, importance, normalize)
        self._seen: list[Losses] = []
        self._references: list[Tensor] = []
        self._left: list[Tensor] = []

    def see(self, losses: Losses, ref_loss: float | Tensor = 0.0) -> None:
        """One micro-batch of the first pass. ref_loss: a number, the same for all of them, or [N]."""
        if self._left:
            raise ValueError(f"{len(self._left)} micro-batches were seen whose loss was not asked for")
        ref = torch.as_tensor(ref_loss, dtype=losses.score.dtype, device=losses.score.device)
        checks.reference_loss(ref, False, losses.score, len(losses.score))
        self._seen.append(losses._replace(objective=losses.objective.detach(), score=losses.score.detach()))
        self._references.append(ref.expand(len(losses.score)))

    def loss(self, losses: Losses) -> Tensor:
        """The share of the whole batch's loss of the next micro-batch of the second pass [], in the order they were seen."""
        if self._seen:
            self._left = self._weigh()
        if not self._left:
            raise ValueError("no micro-batch is left: show them all to see() first")
        weights = self._left[0]
        if weights.shape != losses.objective.shape:
            raise ValueError(f"this micro-batch has {len(losses.objective)} rows, the one that was seen {len(weights)}")
        del self._left[0]
        return (weights * losses.objective).sum()

    def _weigh(self) -> list[Tensor]:
        seen, references = self._seen, torch.cat(self._references)
        self._seen, self._references = [], []
        (weights, eta, direction), (distance, importance, normalize) = self._settings
        ref = references if bool(references.any()) or distance == "ratio" else None
        w = rules.weighting(weights, eta, direction, ref, distance, importance, normalize, True)
        score, kept = (torch.cat([getattr(each, name) for each in seen]) for name in ("score", "kept"))
        of_class = [each.class_weight for each in seen]
        prior = None if of_class[0] is None else torch.cat([each for each in of_class if each is not None])
        found = rules.weigh(score, score, kept, prior, w, 1.0).weights
        return list(found.split([len(each.score) for each in seen]))
