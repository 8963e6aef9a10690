"""The operator in plain PyTorch: the oracle, and the fallback where no compiled operator is there."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

SIGNS = {"forget": -1.0, "retain": 1.0}


def scores(losses: Tensor, eta: float, direction: str, ref_loss: float | Tensor, distance: str) -> Tensor:
    """∓eta·d(loss, reference), the logarithm of the unnormalised weight (LoReUn, eqs. 4 and 5)."""
    excess = losses - ref_loss if distance == "difference" else losses / ref_loss
    return SIGNS[direction] * eta * excess


def weights(losses: Tensor, eta: float, direction: str, ref_loss: float | Tensor, distance: str) -> Tensor:
    """Softmax over the batch, so exp never overflows."""
    return torch.softmax(scores(losses, eta, direction, ref_loss, distance), 0)


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    score_target: Tensor | None,
    score_loss: Tensor | None,
    *,
    eta: float,
    direction: str,
    ref_loss: float | Tensor,
    distance: str,
    ignore_index: int,
    label_smoothing: float,
    detach_weights: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(weighted loss [], objective losses [N], score losses [N], weights [N]) from one log-softmax of [N, C]."""
    logp = F.log_softmax(logits, 1, dtype=torch.float64 if logits.dtype == torch.float64 else torch.float32)
    kept = target != ignore_index
    objective = _nll(logp, target, kept, label_smoothing)
    if score_loss is not None:
        score = score_loss.to(objective.dtype)
    elif score_target is None:
        score = objective if label_smoothing == 0.0 else _nll(logp, target, kept, 0.0)
    else:
        score = _nll(logp, score_target, kept, 0.0)
    s = scores(score.detach() if detach_weights else score, eta, direction, ref_loss, distance)
    w = torch.softmax(s.masked_fill(~kept, float("-inf")), 0)
    loss = (w * objective.masked_fill(~kept, 0.0)).sum() if len(objective) else objective.mean()  # NaN, as torch's
    return loss, objective, score, w


def _nll(logp: Tensor, target: Tensor, kept: Tensor, smoothing: float) -> Tensor:
    safe = target.where(kept, 0)
    nll = -logp.gather(1, safe.unsqueeze(1)).squeeze(1)
    return nll if smoothing == 0.0 else (1 - smoothing) * nll - smoothing * logp.mean(1)
