"""The rows' losses in plain PyTorch: the oracle, and what runs where no compiled operator is there."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from loreun_bench.ops.checks import accumulator


def cross_entropy(
    logits: Tensor, target: Tensor, score_target: Tensor | None, class_weight: Tensor | None, ignore_index: int,
    label_smoothing: float,
) -> tuple[Tensor, Tensor, Tensor | None]:  # fmt: skip
    """(objective losses, score losses, which rows are kept), [N] each, from one log-softmax of [N, C].

    target: labels [N], or probabilities [N, C]. The objective is that of torch's cross entropy with reduction "none".
    """
    dtype = accumulator(logits)
    if target.is_floating_point():
        logp = F.log_softmax(logits, 1, dtype=dtype)
        objective = _expected(logp, target.to(dtype), class_weight, label_smoothing)
        return objective, objective if score_target is None else _nll(logp, score_target, None), None
    kept = target != ignore_index
    if score_target is None:  # else an ignored row's NaN would reach its gradient
        logits = logits.masked_fill(~kept.unsqueeze(1), 0.0)
    logp = F.log_softmax(logits, 1, dtype=dtype)
    nll = _nll(logp, target, kept)
    objective = nll if class_weight is None else nll * class_weight[target.where(kept, 0)]
    if label_smoothing:
        to_all = logp.mean(1) if class_weight is None else (logp * class_weight).mean(1)
        objective = ((1 - label_smoothing) * objective - label_smoothing * to_all).masked_fill(~kept, 0.0)
    if score_target is None:
        return objective, nll, kept
    return objective, _nll(logp, score_target, (score_target >= 0) & (score_target < logp.shape[1])), kept


def mean_squared(input: Tensor, target: Tensor, score_target: Tensor | None, mean: bool) -> tuple[Tensor, Tensor]:
    """(objective losses, score losses): squared errors, averaged or summed over all dimensions but the first."""
    input = input.to(accumulator(input))  # once: autograd adds two gradients
    objective = _squares(input, target, mean)
    return objective, objective if score_target is None else _squares(input, score_target, mean)


def _nll(logp: Tensor, target: Tensor, kept: Tensor | None) -> Tensor:
    safe = target if kept is None else target.where(kept, 0)
    nll = -logp.gather(1, safe.unsqueeze(1)).squeeze(1)
    return nll if kept is None else nll.masked_fill(~kept, 0.0)


def _expected(logp: Tensor, probabilities: Tensor, class_weight: Tensor | None, smoothing: float) -> Tensor:
    if smoothing:
        probabilities = probabilities * (1 - smoothing) + smoothing / logp.shape[1]
    weighted = probabilities if class_weight is None else probabilities * class_weight
    return -(logp * weighted).sum(1)


def _squares(input: Tensor, target: Tensor, mean: bool) -> Tensor:
    squares = (input - target.to(input.dtype)).square()
    rows = squares.flatten(1) if squares.dim() > 1 else squares.unsqueeze(1)
    return rows.mean(1) if mean else rows.sum(1)
