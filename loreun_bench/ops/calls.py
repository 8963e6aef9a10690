"""From a call to what computes it: the compiled operator, whole or as its two passes, else plain PyTorch.

The compiled operator checks for itself what keeps memory safe. When it refuses, the checks in words are asked why.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor

from loreun_bench.ops import checks, native, rules
from loreun_bench.ops.autograd import UNWEIGHTED, Loss
from loreun_bench.ops.linear import Linear
from loreun_bench.ops.rows import CrossEntropy, Losses, MeanSquared, differentiable
from loreun_bench.ops.rules import CODES, NORMALIZE, Weighting


class Stats(NamedTuple):
    """What `return_stats` adds: objective and score losses [N], weights [N], effective sample size (Σw)²/Σw² []."""

    objective: Tensor
    score: Tensor
    weights: Tensor
    effective_samples: Tensor


class Segments(NamedTuple):
    """Which sequence each row belongs to [N], how many there are, and whether a sequence's loss is its rows' mean."""

    ids: Tensor
    number: int
    mean: bool


Rows = CrossEntropy | MeanSquared | Linear


class How(NamedTuple):
    """What is made of the rows' losses."""

    weighting: Weighting
    score_loss: Tensor | None
    segments: Segments | None = None
    reduction: str = "mean"
    scale: float = 1.0
    inplace: bool = False
    return_stats: bool = False
    group: Any = None


USUAL = {("exp", "batch", "difference", "mean", direction, 0.0): sign for direction, sign in rules.SIGNS.items()}


def quick(
    logits: Tensor, target: Tensor, score_target: Tensor | None, eta: float, words: tuple[Any, ...], ignore_index: int,
    label_smoothing: float, detach: bool, scale: float, inplace: bool, return_stats: bool,
) -> Any:  # fmt: skip
    """What a training step asks for most, without looking at what it did not ask for; None: the long way, and its errors."""
    if torch.compiler.is_compiling() or (sign := USUAL.get(words)) is None or not native.serves(logits):
        return None
    if (eager := native.eager()) is None:
        return None
    if inplace:
        checks.overwritable(logits)
    settings = (0, sign * eta, 0.0, 1.0, False, 0, detach, ignore_index, label_smoothing, scale)
    try:
        found = eager.cross_entropy(inplace, return_stats, logits, target, score_target, None, None, None, None, *settings)
    except RuntimeError:
        return None
    return _told(found) if return_stats and found is not None else found


def quick_squares(
    input: Tensor, target: Tensor, score_target: Tensor | None, eta: float, direction: Any, ref_loss: float | Tensor,
    reduction: str, scale: float, return_stats: bool,
) -> Any:  # fmt: skip
    """The same of squared errors in ratio form, with detached weights."""
    if torch.compiler.is_compiling() or (sign := rules.SIGNS.get(direction)) is None or not native.serves(input):
        return None
    if (eager := native.eager()) is None or target.requires_grad or reduction not in ("mean", "sum"):
        return None
    if isinstance(ref_loss, Tensor):
        ref, eta = ref_loss, sign * eta
    elif isinstance(ref_loss, float) and checks.SMALLEST < ref_loss < math.inf:
        ref, eta = None, sign * eta / ref_loss
    else:
        return None
    settings = (0, eta, 0.0, 1.0, ref is not None, 0, True, reduction == "mean", scale)
    try:
        found = eager.mean_squared(False, return_stats, input, target, score_target, None, ref, None, *settings)
    except RuntimeError:
        return None
    return _told(found) if return_stats and found is not None else found


def run(rows: Rows, how: How) -> Any:
    """The loss of a call whose arguments are [N, …] and [N]."""
    w = how.weighting
    compiling = torch.compiler.is_compiling()
    if compiling and rows.score_target is rows.target and how.score_loss is None:
        rows = dataclasses.replace(rows, score_target=None)  # dynamo takes no tensor twice
    check = functools.partial(
        rows.check, how.score_loss, w, how.inplace, how.segments.number if how.segments else None
    )
    flows = not w.detach and differentiable(how.score_loss, w.ref, rows.score_target)
    fits = _served(rows) and not (flows and rows.kind == "mse")
    if compiling or not fits:
        check()
    elif how.inplace:
        checks.overwritable(rows.x)
    if not compiling and rows.x.shape[:1] == (1,):
        _warn_of_one(how)
    try:
        if not fits or not _fused(rows, how) or (flows and differentiable(how.score_loss, w.ref)):
            return _open(rows, how, fits)
        return _whole(rows, how)
    except (RuntimeError, IndexError):
        if fits and not compiling:
            check()
        raise


def _served(rows: Rows) -> bool:
    """Whether the compiled operator has these rows' losses."""
    return native.serves(rows.x) and rows.fits() and not checks.transformed()


def _fused(rows: Rows, how: How) -> bool:
    """Whether one pass of the kernels, or two with a function between, make the loss."""
    w = how.weighting
    if how.segments or how.reduction == "none" or (how.return_stats and rows.class_weight is not None):
        return False
    return w.function is None or (w.detach and how.score_loss is None and how.group is None)


def _open(rows: Rows, how: How, fits: bool) -> Any:
    """The middle in PyTorch: rows' losses, their weights, and autograd between."""
    w, scale = how.weighting, how.scale
    if how.segments and how.reduction == "none":
        raise ValueError("reduction='none' gives rows' losses: give segment_ids or that, not both")
    objective, score, kept = rows.losses(fits)
    prior = rows.prior()
    if how.segments:
        ids, count, mean = how.segments
        objective, there = rules.by_segment(objective, ids, count, kept, prior, mean)
        if how.score_loss is None:
            score, _ = rules.by_segment(score, ids, count, kept, None, mean)
        kept, prior = there, None
    if how.score_loss is not None:
        score = how.score_loss.to(objective.dtype)
    found = rules.weigh(objective, score, kept, prior, w, scale, how.group)
    if how.reduction == "none":
        losses = objective if kept is None else objective.masked_fill(~kept, 0.0)
        answer: Any = (losses if scale == 1.0 else scale * losses, found.weights)
    else:
        answer = found.loss
    return (answer, _stats(*found[1:])) if how.return_stats else answer


def _whole(rows: Rows, how: How) -> Any:
    """In the kernels."""
    w, x = how.weighting, rows.x
    tensors = (x, rows.target, rows.score_target)
    if w.function is not None:
        of_class = () if rows.kind == "mse" else (_of_type(rows.class_weight, x),)
        settings = (*UNWEIGHTED, *rows.shared, how.scale)
        inputs: tuple[Tensor | None, ...] = (None, None, None, *of_class)
    else:
        eta, ref, ratio, number = _reference(w, x)
        inputs = (_of_type(how.score_loss, x), ref, _of_type(w.factor, x))
        if rows.kind == "ce":
            inputs = (*inputs, _of_type(rows.class_weight, x))
        named = (CODES[str(w.rule)], eta, number, w.importance, ratio, NORMALIZE[w.normalize], w.detach)
        settings = (*named, *rows.shared, how.scale)
        plain = how.group is None and not torch.compiler.is_compiling()
        if plain and (eager := native.eager()) is not None:
            call = eager.cross_entropy if rows.kind == "ce" else eager.mean_squared
            found = call(how.inplace, how.return_stats, *tensors, *inputs, *settings)
            if found is not None:
                return _told(found) if how.return_stats else found
    found = Loss.apply(
        rows.kind, *tensors, inputs, settings, w.function, w.normalize, how.inplace, how.group, how.return_stats,
        torch.is_grad_enabled(),
    )  # fmt: skip
    if not how.return_stats:
        return found
    return _with_stats(*found) if w.function is None else (found[0], _stats(found[1][0], found[1][1], found[3]))


def losses(rows: CrossEntropy | MeanSquared) -> Losses:
    """The two passes with nothing between them."""
    fits, empty = _served(rows), Weighting("exp")
    if not fits or torch.compiler.is_compiling():
        rows.check(None, empty)
    try:
        objective, score, kept = rows.losses(fits)
    except RuntimeError:
        rows.check(None, empty)
        raise
    return Losses(objective, score, torch.ones_like(objective, dtype=torch.bool) if kept is None else kept, rows.prior())


def step(
    forget_logits: Tensor, forget_target: Tensor, forget_clean: Tensor | None, retain_logits: Tensor,
    retain_target: Tensor, eta_f: float, eta_r: float, alpha: float, ignore_index: int, label_smoothing: float,
    detach: bool, scale: float, return_stats: bool,
) -> Any:  # fmt: skip
    """`loreun_step`."""
    shared = (ignore_index, label_smoothing)
    for name, number in (("eta_f", eta_f), ("eta_r", eta_r), ("alpha", alpha)):
        checks.number(number, name)
    forget, retain = (forget_logits, forget_target, forget_clean), (retain_logits, retain_target, None)
    check = functools.partial(checks.step, *forget, retain_logits, retain_target, *shared)
    if forget_logits.device != retain_logits.device:
        check()
    try:
        found = [
            _weighted(batch, eta, direction, shared, detach, of_batch, return_stats)
            for batch, eta, direction, of_batch in (
                (forget, eta_f, "forget", scale), (retain, eta_r, "retain", alpha * scale)
            )
        ]  # fmt: skip
    except (RuntimeError, ValueError, IndexError):
        check()
        raise
    if not return_stats:
        return found[0] + found[1]
    (loss_f, stats_f), (loss_r, stats_r) = found
    return loss_f + loss_r, (stats_f, stats_r)


def _weighted(
    batch: tuple[Tensor, Tensor, Tensor | None], eta: float, direction: str, shared: tuple[int, float], detach: bool,
    scale: float, return_stats: bool,
) -> Any:  # fmt: skip
    """One batch of a step."""
    words = ("exp", "batch", "difference", "mean", direction, 0.0)
    found = quick(*batch, eta, words, *shared, detach, scale, False, return_stats)
    if found is not None:
        return found
    how = How(Weighting("exp", rules.SIGNS[direction] * eta, detach=detach), None, scale=scale, return_stats=return_stats)
    return run(CrossEntropy(*batch, None, *shared), how)


@functools.cache
def _warned_of_one() -> None:
    warnings.warn(
        "a batch of one row has weight 1 whatever its loss: with gradient accumulation, weigh all micro-batches together "
        "(loreun_bench.ops.Accumulation)",
        stacklevel=6,
    )


def _warn_of_one(how: How) -> None:
    w = how.weighting
    if w.normalize == "batch" and not how.segments and how.group is None and (w.function or w.factor is not None or w.eta):
        _warned_of_one()


def _reference(w: Weighting, like: Tensor) -> tuple[float, Tensor | None, bool, float]:
    """(eta, reference tensor, ratio, reference number) as the kernels take them.

    For exponential weights one number divides eta in ratio form, and in difference form it is seen by the normalisation
    alone: a softmax does not see it.
    """
    if isinstance(w.ref, Tensor):
        return w.eta, _of_type(w.ref, like), w.ratio, 0.0
    if CODES[str(w.rule)] != CODES["exp"]:
        return w.eta, None, w.ratio, w.ref
    if w.ratio:
        return w.eta / w.ref, None, False, 0.0
    return w.eta, None, False, 0.0 if w.normalize == "batch" else w.ref


def _of_type(values: Tensor | None, like: Tensor) -> Tensor | None:
    """Values that go with `like`, in the type of its arithmetic; what does not fit is left for the operator to refuse."""
    if values is None:
        return None
    dtype = checks.accumulator(like)
    if values.dtype == dtype and values.dim() and values.is_contiguous():
        return values
    if not values.is_floating_point():
        return values
    if values.dim() == 0 and values.device.type == "cpu":
        values = values.to(like.device)
    return values.detach().to(dtype).contiguous()


def _told(found: tuple[Tensor, ...]) -> tuple[Tensor, Stats]:
    """A loss and its statistics as autograd in C++ gives them."""
    loss, *stats = found
    return loss, Stats(*stats)


def _with_stats(loss: Tensor, table: Tensor, batch: Tensor) -> tuple[Tensor, Stats]:
    """What the kernels found of a batch, in the user's words."""
    return loss, _stats(table[0], table[1], torch.exp(table[2].double() - batch[0]).to(table.dtype))


def _stats(objective: Tensor, score: Tensor, weights: Tensor) -> Stats:
    weights = weights.detach()
    return Stats(objective.detach(), score.detach(), weights, weights.sum().square() / weights.square().sum())
