"""The middle of the operator: N scores in, N weights out. In plain PyTorch, for all that the kernels do not fuse.

A score s becomes a weight by a named rule, with d = s - ref_loss, or s / ref_loss in ratio form, and eta negative to forget:
"exp", exp(eta·d) (LoReUn); "power", d^eta (SFR-on, NeurIPS 2024); "probability", exp(eta·s) = p^-eta (WGA, ICLR 2025);
"satimp", p^-eta·(1 - p)^importance (SatImp, ICML 2025); "logistic", 2·sigmoid(eta·d) (NPO, COLM 2024). Or by a function from
the scores [N] to weights [N], any torch code; or the weights are given. normalize: they are divided by their sum ("batch"),
by the number of rows ("mean"), or not ("none").
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from loreun_bench.ops import checks, distributed

SIGNS = {"forget": -1.0, "retain": 1.0}
# Rule and Normalize of csrc/include/loreun/params.h.
CODES = {"exp": 0, "power": 1, "probability": 0, "satimp": 2, "logistic": 3}
GIVEN = 4
NORMALIZE = {"batch": 0, "mean": 1, "none": 2}

Rule = Callable[[Tensor], Tensor]


class Weighting(NamedTuple):
    """How scores become weights. rule: a name of CODES, or a function of the scores; eta is signed, and multiplied by
    `factor` [] where it was given as a tensor; ref: a number or [N]."""

    rule: str | Rule
    eta: float = 0.0
    factor: Tensor | None = None
    ref: float | Tensor = 0.0
    ratio: bool = False
    importance: float = 1.0
    normalize: str = "batch"
    detach: bool = True

    @property
    def function(self) -> Rule | None:
        """The user's function, or None for a named rule."""
        return None if isinstance(self.rule, str) else self.rule


def weighting(
    weights: Any, eta: Any, direction: Any, ref_loss: float | Tensor | None, distance: str, importance: float,
    normalize: str, detach: bool,
) -> Weighting:  # fmt: skip
    """From a call's arguments. Raises ValueError on what does not go together."""
    checks.one_of(normalize, "normalize", NORMALIZE)
    if isinstance(weights, Tensor) or callable(weights):
        if eta is not None or direction is not None or (ref_loss is not None and checks.as_float(ref_loss) != 0.0):
            raise ValueError("weights is no named rule: eta, direction and ref_loss say nothing to it, leave them out")
        return Weighting((lambda _: weights) if isinstance(weights, Tensor) else weights, normalize=normalize, detach=detach)
    checks.one_of(weights, "weights", CODES)
    signed, factor = checks.settings(eta, direction, distance)
    ref, ratio = checks.reference(weights, ref_loss, distance)
    checks.number(importance, "importance")
    return Weighting(weights, SIGNS[direction] * signed, factor, ref, ratio, importance, normalize, detach)


def log_weights(score: Tensor, w: Weighting) -> Tensor:
    """The logarithms of a named rule's weights before normalisation (csrc/include/loreun/weighting.h)."""
    eta: float | Tensor = w.eta if w.factor is None else w.eta * w.factor.detach().to(score.dtype)
    ref = w.ref.to(score.dtype) if isinstance(w.ref, Tensor) else w.ref
    d = score / ref if w.ratio else score - ref
    if w.rule == "power":
        d = d.clamp(min=torch.finfo(d.dtype).tiny).where(d >= 0, torch.nan)
        return eta * d.log()
    if w.rule == "satimp":
        rest = -torch.expm1(-score)
        return eta * score + w.importance * rest.log() if w.importance else eta * score
    if w.rule == "logistic":
        return math.log(2) + F.logsigmoid(eta * d)
    return eta * d


class Weighted(NamedTuple):
    """The loss [], and per row the objective loss, the score loss and the weight, [N] each."""

    loss: Tensor
    objective: Tensor
    score: Tensor
    weights: Tensor


def weigh(
    objective: Tensor, score: Tensor, kept: Tensor | None, prior: Tensor | None, w: Weighting, scale: float,
    group: Any = None,
) -> Weighted:  # fmt: skip
    """The weighted sum of the rows' losses. Rows that are not `kept` have weight 0; `prior` [N] is what their classes
    weigh, already in the objective: it counts in what the weights are divided by."""
    seen = score.detach() if w.detach else score
    s = _logarithms(seen, w)
    if kept is not None:
        objective, s = objective.masked_fill(~kept, 0.0), s.masked_fill(~kept, float("-inf"))
    if group is not None:
        return _over_ranks(objective, score, s, prior, w, scale, group)
    weights = torch.softmax(s, 0) if w.normalize == "batch" and prior is None else _divided(s, kept, prior, w.normalize)
    loss = (weights * objective).sum() if len(s) or w.normalize == "none" else objective.mean()  # NaN, as torch's
    return Weighted(loss if scale == 1.0 else scale * loss, objective, score, weights)


def _divided(s: Tensor, kept: Tensor | None, prior: Tensor | None, normalize: str) -> Tensor:
    if normalize == "none":
        return s.exp()
    if normalize == "mean":
        rows = torch.ones_like(s) if prior is None else prior
        return s.exp() / (rows if kept is None else rows.masked_fill(~kept, 0.0)).sum().detach()
    assert prior is not None
    t = s + prior.log()
    top = t.detach().max() if len(t) else 0.0
    return torch.exp(s - top) / torch.exp(t - top).sum()


def _logarithms(score: Tensor, w: Weighting) -> Tensor:
    if w.function is None:
        return log_weights(score, w)
    weights = w.function(score)
    checks.weights(weights, score)
    weights = weights.to(score.dtype)
    return (weights.detach() if w.detach else weights).log()


def _over_ranks(
    objective: Tensor, score: Tensor, s: Tensor, prior: Tensor | None, w: Weighting, scale: float, group: Any
) -> Weighted:
    rows = torch.ones_like(s) if prior is None else prior
    local = (s + rows.log()).detach().double()
    summed = local if w.normalize == "batch" else rows.double().masked_fill(local == float("-inf"), 0.0).log()
    log_normaliser = local.new_zeros(()) if w.normalize == "none" else torch.logsumexp(summed, 0)
    wide = s.detach().double()
    weighted = (torch.exp(wide - log_normaliser) * objective.detach()).sum()
    whole, ranks = distributed.gather(torch.stack([log_normaliser, weighted, weighted]), group, w.normalize)
    weights = torch.exp(wide - whole[0]).to(objective.dtype)
    excess = (objective.detach() - rows * whole[2]).to(objective.dtype)
    shape = (weights * objective).sum() + (weights * excess * s.nan_to_num(neginf=0.0)).sum()  # its gradient is the whole's
    value = (scale * whole[1]).to(objective.dtype)
    return Weighted(value + scale * ranks * (shape - shape.detach()), objective, score, weights)


def by_segment(
    values: Tensor, ids: Tensor, count: int, kept: Tensor | None, prior: Tensor | None, mean: bool
) -> tuple[Tensor, Tensor]:
    """(sums or means of rows' values over each of `count` segments, which segments have a row that is kept).

    A mean divides by the segment's rows, each as much as its class weighs."""
    share = torch.ones_like(values) if kept is None else kept.to(values.dtype)
    bounds = torch.searchsorted(ids, torch.arange(count + 1, device=ids.device, dtype=ids.dtype))

    def add_up(rows: Tensor) -> Tensor:
        return torch.segment_reduce(rows.contiguous(), "sum", offsets=bounds, axis=0, unsafe=True)

    there = add_up(share) > 0
    sums = add_up(values.where(share > 0, 0.0))
    if not mean:
        return sums, there
    return sums / add_up(share if prior is None else share * prior).where(there, 1.0), there
