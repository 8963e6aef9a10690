"""From a call to what computes it: the compiled operator where it is there and has the gradient, else plain PyTorch.

The compiled operator checks for itself what keeps memory safe. When it refuses, the checks in words are asked why.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor

from loreun_bench.ops import checks, native, reference
from loreun_bench.ops.autograd import Loss, Step


class Stats(NamedTuple):
    """What `return_stats` adds: objective and score losses [N], weights [N], effective sample size 1/Σw² []."""

    objective: Tensor
    score: Tensor
    weights: Tensor
    effective_samples: Tensor


def cross_entropy(
    logits: Tensor, target: Tensor, score_target: Tensor | None, score_loss: Tensor | None,
    eta: float, direction: str, ref_loss: float | Tensor, distance: str, ignore_index: int, label_smoothing: float,
    detach: bool, scale: float, inplace: bool, return_stats: bool, group: Any,
) -> Any:  # fmt: skip
    """`loreun_cross_entropy`."""
    checks.settings(eta, direction, distance)
    compiling = torch.compiler.is_compiling()
    if compiling and score_target is target and score_loss is None:
        score_target = None  # dynamo takes no tensor twice

    def check() -> None:
        checks.cross_entropy(
            logits, target, score_target, score_loss, ref_loss, distance, ignore_index, label_smoothing, inplace
        )

    if not native.serves(logits) or (not detach and _differentiable(score_loss, ref_loss)):
        check()
        found = reference.cross_entropy(
            logits, target, score_target, score_loss, ignore_index=ignore_index, label_smoothing=label_smoothing,
            eta=eta, direction=direction, ref_loss=ref_loss, distance=distance, detach=detach, scale=scale, group=group,
        )  # fmt: skip
        return (found.loss, _stats(*found[1:])) if return_stats else found.loss
    if inplace or compiling:
        check()
    signed, ratio, ref = _reference(eta, direction, ref_loss, distance, logits)
    tensors = (logits, target, score_target, _of_type(score_loss, logits), ref)
    settings = (signed, ratio, detach, ignore_index, label_smoothing, scale)
    try:
        plain = not (inplace or return_stats or compiling or group is not None)
        if plain and (eager := native.eager()) and (loss := eager.cross_entropy(*tensors, *settings)) is not None:
            return loss
        found = Loss.apply("ce", *tensors, settings, inplace, group, return_stats, torch.is_grad_enabled())
    except RuntimeError:
        check()
        raise
    return _with_stats(*found) if return_stats else found


def mean_squared(
    input: Tensor, target: Tensor, score_target: Tensor | None, score_loss: Tensor | None,
    eta: float, direction: str, ref_loss: float | Tensor, distance: str, reduction: str,
    detach: bool, scale: float, return_stats: bool, group: Any,
) -> Any:  # fmt: skip
    """`loreun_mse_loss`."""
    checks.settings(eta, direction, distance)
    compiling = torch.compiler.is_compiling()
    if compiling and score_target is target and score_loss is None:
        score_target = None
    if target.dtype != input.dtype or (score_target is not None and score_target.dtype != input.dtype):
        input, target, score_target = _promoted(input, target, score_target)

    def check() -> None:
        checks.mean_squared(input, target, score_target, score_loss, ref_loss, distance, reduction)

    mean = reduction == "mean"
    scored = not detach and _differentiable(score_target, score_loss, ref_loss)
    if scored or (target.requires_grad and torch.is_grad_enabled()) or not native.serves(input):
        check()
        found = reference.mean_squared(
            input, target, score_target, score_loss, mean=mean, eta=eta, direction=direction, ref_loss=ref_loss,
            distance=distance, detach=detach, scale=scale, group=group,
        )  # fmt: skip
        return (found.loss, _stats(*found[1:])) if return_stats else found.loss
    if compiling or not (mean or reduction == "sum"):
        check()
    signed, ratio, ref = _reference(eta, direction, ref_loss, distance, input)
    settings = (signed, ratio, detach, mean, scale)
    try:
        tensors = (input, target, score_target, _of_type(score_loss, input), ref)
        plain = not (return_stats or compiling or group is not None)
        if plain and (eager := native.eager()) and (loss := eager.mean_squared(*tensors, *settings)) is not None:
            return loss
        found = Loss.apply("mse", *tensors, settings, False, group, return_stats, torch.is_grad_enabled())
    except RuntimeError:
        check()
        raise
    return _with_stats(*found) if return_stats else found


def step(
    forget_logits: Tensor, forget_target: Tensor, forget_clean: Tensor | None, retain_logits: Tensor,
    retain_target: Tensor, eta_f: float, eta_r: float, alpha: float, ignore_index: int, label_smoothing: float,
    detach: bool, scale: float, return_stats: bool,
) -> Any:  # fmt: skip
    """`loreun_step`."""
    for name, number in (("eta_f", eta_f), ("eta_r", eta_r), ("alpha", alpha)):
        checks.number(number, name)
    if torch.compiler.is_compiling() and forget_clean is forget_target:
        forget_clean = None
    forget, retain = (forget_logits, forget_target, forget_clean), (retain_logits, retain_target)
    check = functools.partial(checks.step, *forget, *retain, ignore_index, label_smoothing)
    shared = retain_logits is forget_logits or retain_target is forget_target or retain_target is forget_clean
    apart = retain_logits.dtype != forget_logits.dtype or (shared and torch.compiler.is_compiling())
    if apart or not native.serves(forget_logits):
        check()
        one = functools.partial(
            cross_entropy, score_loss=None, ref_loss=0.0, distance="difference", ignore_index=ignore_index,
            label_smoothing=label_smoothing, detach=detach, inplace=False, return_stats=True, group=None,
        )  # fmt: skip
        loss_f, stats_f = one(*forget, eta=eta_f, direction="forget", scale=scale)
        loss_r, stats_r = one(*retain, None, eta=eta_r, direction="retain", scale=alpha * scale)
        return (loss_f + loss_r, (stats_f, stats_r)) if return_stats else loss_f + loss_r
    if torch.compiler.is_compiling():
        check()
    settings = (eta_f, eta_r, alpha, detach, ignore_index, label_smoothing, scale)
    try:
        found = Step.apply(*forget, *retain, settings, return_stats, torch.is_grad_enabled())
    except RuntimeError:
        check()
        raise
    if not return_stats:
        return found
    loss, table_f, batch_f, table_r, batch_r = found
    return loss, (_with_stats(loss, table_f, batch_f)[1], _with_stats(loss, table_r, batch_r)[1])


def _differentiable(*values: Any) -> bool:
    """Whether a gradient must flow into any of these: the kernels have none but that of their first argument."""
    return any(isinstance(value, Tensor) and value.requires_grad and torch.is_grad_enabled() for value in values)


def _reference(
    eta: float, direction: str, ref_loss: float | Tensor, distance: str, like: Tensor
) -> tuple[float, bool, Tensor | None]:
    """(signed eta, ratio, reference tensor) as the kernels take them.

    One number cancels in difference form, as the softmax does not see a shift, and divides eta in ratio form.
    """
    signed = reference.SIGNS[direction] * eta
    if isinstance(ref_loss, Tensor):
        return signed, distance == "ratio", _of_type(ref_loss, like)
    if distance == "ratio" or ref_loss != 0.0:
        checks.reference_loss(ref_loss, distance, like)
    return (signed / ref_loss if distance == "ratio" else signed), False, None


def _of_type(values: Tensor | None, like: Tensor) -> Tensor | None:
    """Values that go with `like`, in the type of its arithmetic; what does not fit is left for the operator to refuse."""
    if values is None:
        return None
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    if values.dtype == dtype and values.dim() and values.is_contiguous():
        return values
    if not values.is_floating_point():
        return values
    if values.dim() == 0 and values.device.type == "cpu":
        values = values.to(like.device)
    return values.detach().to(dtype).contiguous()


def _promoted(input: Tensor, target: Tensor, score_target: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """All in the type that holds them all; what is not floating is left for the checks to refuse."""
    given = [t.dtype for t in (input, target, score_target) if t is not None]
    if not all(dtype.is_floating_point for dtype in given):
        return input, target, score_target
    dtype = functools.reduce(torch.promote_types, given)
    return input.to(dtype), target.to(dtype), None if score_target is None else score_target.to(dtype)


def _with_stats(loss: Tensor, table: Tensor, batch: Tensor) -> tuple[Tensor, Stats]:
    """What the kernels found of a batch, in the user's words."""
    return loss, _stats(table[0], table[1], torch.exp(table[2].double() - batch[0]).to(table.dtype))


def _stats(objective: Tensor, score: Tensor, weights: Tensor) -> Stats:
    weights = weights.detach()
    return Stats(objective.detach(), score.detach(), weights, 1 / weights.square().sum())
