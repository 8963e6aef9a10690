"""The operator in plain PyTorch: the oracle, and the fallback where no compiled operator is there."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from loreun_bench.ops import distributed

SIGNS = {"forget": -1.0, "retain": 1.0}


class Weighted(NamedTuple):
    """The loss [], and per row the objective loss, the score loss and the weight, [N] each."""

    loss: Tensor
    objective: Tensor
    score: Tensor
    weights: Tensor


def scores(losses: Tensor, eta: float, direction: str, ref_loss: float | Tensor, distance: str) -> Tensor:
    """∓eta·d(loss, reference), the logarithm of the unnormalised weight (LoReUn, eqs. 4 and 5)."""
    if isinstance(ref_loss, Tensor):
        ref_loss = ref_loss.to(losses.dtype)
    excess = losses - ref_loss if distance == "difference" else losses / ref_loss
    return SIGNS[direction] * eta * excess


def weights(losses: Tensor, eta: float, direction: str, ref_loss: float | Tensor, distance: str) -> Tensor:
    """Softmax over the batch, so exp never overflows."""
    return torch.softmax(scores(losses, eta, direction, ref_loss, distance), 0)


def reduce(
    objective: Tensor, score: Tensor, kept: Tensor | None, eta: float, direction: str, ref_loss: float | Tensor,
    distance: str, detach: bool, scale: float, group: Any,
) -> Weighted:  # fmt: skip
    """The weighted sum of per-sample losses; rows that are not kept have weight 0."""
    s = scores(score.detach() if detach else score, eta, direction, ref_loss, distance)
    if kept is not None:
        s, objective = s.masked_fill(~kept, float("-inf")), objective.masked_fill(~kept, 0.0)
    if group is not None:
        return _reduce_over_ranks(objective, score, s, scale, group)
    w = torch.softmax(s, 0)
    loss = (w * objective).sum() if len(objective) else objective.mean()  # NaN, as torch's
    return Weighted(loss if scale == 1.0 else scale * loss, objective, score, w)


def _reduce_over_ranks(objective: Tensor, score: Tensor, s: Tensor, scale: float, group: Any) -> Weighted:
    local = torch.softmax(s.detach(), 0)
    batch = torch.stack([torch.logsumexp(s.detach(), 0), (local * objective.detach()).sum()]).double()
    whole, ranks = distributed.gather(batch, group)
    w = torch.exp(s.detach() - whole[0]).to(objective.dtype)
    excess = (objective.detach() - whole[1]).to(objective.dtype)
    shape = (w * objective).sum() + (w * excess * s.nan_to_num(neginf=0.0)).sum()  # its gradient is the whole loss's
    value = (scale * whole[1]).to(objective.dtype)
    return Weighted(value + scale * ranks * (shape - shape.detach()), objective, score, w)


def cross_entropy(
    logits: Tensor, target: Tensor, score_target: Tensor | None, score_loss: Tensor | None, *,
    ignore_index: int, label_smoothing: float, **weighting: Any,
) -> Weighted:  # fmt: skip
    """From one log-softmax of [N, C]; `weighting` is that of `reduce`."""
    kept = target != ignore_index
    if score_target is None:  # else an ignored row's NaN would reach its gradient
        logits = logits.masked_fill(~kept.unsqueeze(1), 0.0)
    logp = F.log_softmax(logits, 1, dtype=torch.float64 if logits.dtype == torch.float64 else torch.float32)
    objective = _nll(logp, target, kept, label_smoothing)
    if score_loss is not None:
        score = score_loss.to(objective.dtype)
    elif score_target is not None:
        score = _nll(logp, score_target, None, 0.0)
    else:
        score = objective if label_smoothing == 0.0 else _nll(logp, target, kept, 0.0)
    return reduce(objective, score, kept, **weighting)


def mean_squared(
    input: Tensor, target: Tensor, score_target: Tensor | None, score_loss: Tensor | None, *, mean: bool, **weighting: Any
) -> Weighted:
    """Per-sample squared errors, averaged or summed over all dimensions but the first; `weighting` is that of `reduce`."""
    dtype = torch.float64 if input.dtype == torch.float64 else torch.float32
    input = input.to(dtype)  # once: autograd would add two gradients in 16 bits
    objective = _squares(input, target, mean)
    if score_loss is not None:
        score = score_loss.to(objective.dtype)
    else:
        score = objective if score_target is None else _squares(input, score_target, mean)
    return reduce(objective, score, None, **weighting)


def _nll(logp: Tensor, target: Tensor, kept: Tensor | None, smoothing: float) -> Tensor:
    safe = target if kept is None else target.where(kept, 0)
    nll = -logp.gather(1, safe.unsqueeze(1)).squeeze(1)
    nll = nll if smoothing == 0.0 else (1 - smoothing) * nll - smoothing * logp.mean(1)
    return nll if kept is None else nll.masked_fill(~kept, 0.0)


def _squares(input: Tensor, target: Tensor, mean: bool) -> Tensor:
    squares = (input - target.to(input.dtype)).square()
    rows = squares.flatten(1) if squares.dim() > 1 else squares.unsqueeze(1)
    return rows.mean(1) if mean else rows.sum(1)
