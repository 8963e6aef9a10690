"""The public operator: it says what a call means, and hands it to the compiled operator or to plain PyTorch."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

from loreun_bench.ops import checks, native, reference
from loreun_bench.ops.autograd import CrossEntropy, MeanSquared, Step

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Direction = Literal["forget", "retain"]
Distance = Literal["difference", "ratio"]


class Stats(NamedTuple):
    """What `return_stats` adds: objective and score losses [N], weights [N], effective sample size 1/Σw² []."""

    objective: Tensor
    score: Tensor
    weights: Tensor
    effective_samples: Tensor


def backend(device: str | torch.device = "cpu") -> str:
    """What runs the operator on `device`: "reference" (plain PyTorch), "cuda", "cpu-avx512", …; every record says it."""
    if not native.serves(torch.device(device)):
        return "reference"
    return "cuda" if torch.device(device).type == "cuda" else f"cpu-{native.cpu_capability()}"


def loreun_cross_entropy(
    logits: Tensor,
    target: Tensor,
    score_target: Tensor | None = None,
    *,
    eta: float,
    direction: Direction,
    score_loss: Tensor | None = None,
    ref_loss: float | Tensor = 0.0,
    distance: Distance = "difference",
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    detach_weights: bool = True,
    loss_scale: float = 1.0,
    inplace_backward: bool = False,
    return_stats: bool = False,
    process_group: ProcessGroup | None = None,
) -> Any:
    """Cross entropy with LoReUn's weights: Σ wᵢ ℓ(logitsᵢ, targetᵢ), w = softmax(∓eta·d(score, ref)) over the batch.

    logits: [N, C], floating, any strides; target: [N] int64, the label that is optimised; score_target: [N], the label
    whose loss sets the weight (None: the same); score_loss: [N], losses that set the weight instead (LoReUn-s);
    ref_loss: a number or [N]. direction "forget" gives small scores more weight (eq. 4), "retain" large ones (eq. 5);
    eta = 0 is the plain mean. label_smoothing is of the objective only. Rows with target == ignore_index have weight 0;
    if all are ignored, or N = 0, the loss is NaN. With detach_weights no gradient flows through the weights.

    inplace_backward: the backward pass writes the gradient over the logits and allocates nothing; autograd refuses
    whoever else needs them. process_group: the batch spans its ranks; the loss is that of the whole batch on every
    rank, and the gradient is scaled for data-parallel averaging. No second derivative.

    Returns the scalar loss times loss_scale (float32 for 16-bit logits; float64 for float64), and `Stats` with
    `return_stats`. Raises ValueError on shapes, dtypes, devices, eta or a reference that do not fit, IndexError on a
    label out of range (on a GPU its row is NaN instead, as looking would wait for the device).
    Source: LoReUn (NeurIPS 2024 workshop), eqs. 4-6.
    """
    checks.settings(eta, direction, distance)
    arguments = (logits, target, score_target, score_loss, ignore_index, label_smoothing, inplace_backward)
    if not native.serves(logits.device) or (not detach_weights and _differentiable(score_loss, ref_loss)):
        _check_cross_entropy(*arguments)
        checks.reference_loss(ref_loss, distance, logits)
        found = reference.cross_entropy(
            logits, target, score_target, score_loss, ignore_index=ignore_index, label_smoothing=label_smoothing,
            eta=eta, direction=direction, ref_loss=ref_loss, distance=distance, detach=detach_weights,
            scale=loss_scale, group=process_group,
        )  # fmt: skip
        return (found.loss, _stats(*found[1:])) if return_stats else found.loss
    if torch.compiler.is_compiling() or inplace_backward:
        _check_cross_entropy(*arguments)
        checks.reference_loss(ref_loss, distance, logits)
    signed, ratio, ref = _reference(eta, direction, ref_loss, distance, logits)
    score_loss = _of_type(score_loss, logits)
    settings = (signed, ratio, detach_weights, ignore_index, label_smoothing, loss_scale)
    plain = not (inplace_backward or return_stats or process_group is not None or torch.compiler.is_compiling())
    try:
        if plain and (eager := native.eager()):
            return eager.cross_entropy.default(logits, target, score_target, score_loss, ref, *settings)
        found = CrossEntropy.apply(
            logits, target, score_target, score_loss, ref, settings, inplace_backward, process_group, return_stats
        )
    except RuntimeError:
        _check_cross_entropy(*arguments)
        checks.reference_loss(ref_loss, distance, logits)
        raise
    return _with_stats(*found) if return_stats else found


def loreun_mse_loss(
    input: Tensor,
    target: Tensor,
    score_target: Tensor | None = None,
    *,
    eta: float,
    direction: Direction,
    ref_loss: float | Tensor,
    distance: Distance = "ratio",
    reduction: Literal["mean", "sum"] = "mean",
    score_loss: Tensor | None = None,
    detach_weights: bool = True,
    loss_scale: float = 1.0,
    return_stats: bool = False,
    process_group: ProcessGroup | None = None,
) -> Any:
    """Squared error with LoReUn's weights: Σ wᵢ ‖inputᵢ − targetᵢ‖², w from ‖inputᵢ − score_targetᵢ‖² (None: the same).

    input, target, score_target: [N, ...], floating (unlike dtypes are promoted); a sample's loss is the mean, or with
    reduction "sum" the sum, over all dimensions but the first. ref_loss: a number or [N], positive in ratio form, where
    d = loss / ref_loss: for denoising, the original model's mean loss at the sample's timestep (section 5).
    The other arguments, the result and the exceptions are those of `loreun_cross_entropy`.
    """
    checks.settings(eta, direction, distance)
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction must be 'mean' or 'sum', got {reduction!r}")
    tensors = (input, target, score_target, score_loss)
    mean = reduction == "mean"
    scores = () if detach_weights else (score_target, score_loss, ref_loss)
    if not native.serves(input.device) or _differentiable(target, *scores):
        _check_mean_squared(*tensors)
        checks.reference_loss(ref_loss, distance, input)
        found = reference.mean_squared(
            input, target, score_target, score_loss, mean=mean, eta=eta, direction=direction, ref_loss=ref_loss,
            distance=distance, detach=detach_weights, scale=loss_scale, group=process_group,
        )  # fmt: skip
        return (found.loss, _stats(*found[1:])) if return_stats else found.loss
    if torch.compiler.is_compiling():
        _check_mean_squared(*tensors)
        checks.reference_loss(ref_loss, distance, input)
    signed, ratio, ref = _reference(eta, direction, ref_loss, distance, input)
    settings = (signed, ratio, detach_weights, mean, loss_scale)
    plain = not (return_stats or process_group is not None or torch.compiler.is_compiling())
    try:
        same = _promoted(input, target, score_target)
        score_loss = _of_type(score_loss, same[0])
        if plain and (eager := native.eager()):
            return eager.mean_squared.default(*same, score_loss, ref, *settings)
        found = MeanSquared.apply(*same, score_loss, ref, settings, process_group, return_stats)
    except RuntimeError:
        _check_mean_squared(*tensors)
        checks.reference_loss(ref_loss, distance, input)
        raise
    return _with_stats(*found) if return_stats else found


def loreun_weights(
    losses: Tensor,
    *,
    eta: float,
    direction: Direction,
    ref_loss: float | Tensor = 0.0,
    distance: Distance = "difference",
) -> Tensor:
    """The batch's weights [N], summing to 1, for any per-sample losses [N] (LoReUn, eqs. 4 and 5).

    Differentiable; a softmax of [N] numbers, which torch fuses already. Raises ValueError on a wrong rank, a non-finite
    eta, or a reference that is not positive in ratio form.
    """
    checks.losses(losses)
    checks.settings(eta, direction, distance)
    checks.reference_loss(ref_loss, distance, losses)
    return reference.weights(losses, eta, direction, ref_loss, distance)


def loreun_step(
    forget_logits: Tensor,
    forget_target: Tensor,
    forget_clean: Tensor | None,
    retain_logits: Tensor,
    retain_target: Tensor,
    *,
    eta_f: float,
    eta_r: float,
    alpha: float = 1.0,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    detach_weights: bool = True,
    loss_scale: float = 1.0,
    return_stats: bool = False,
) -> Any:
    """Eq. 6 whole: Σ w_f ℓ(forget, random labels) + alpha Σ w_r ℓ(retain, labels), both batches in one call.

    forget_logits: [N, C]; forget_target: [N], the labels that are optimised; forget_clean: [N], the true labels, whose
    loss sets the weights (None: forget_target); retain_logits: [M, D] of the same dtype; retain_target: [M].
    The same as two calls of `loreun_cross_entropy`, "forget" with eta_f and "retain" with eta_r; one launch on a GPU
    for batches that fit on the chip. Returns the loss, and with `return_stats` the two batches' `Stats`.
    """
    for name, number in (("eta_f", eta_f), ("eta_r", eta_r), ("alpha", alpha)):
        checks.number(number, name)
    forget = (forget_logits, forget_target, forget_clean, None, ignore_index, label_smoothing, False)
    retain = (retain_logits, retain_target, None, None, ignore_index, label_smoothing, False)
    if not native.serves(forget_logits.device) or retain_logits.dtype != forget_logits.dtype:
        _check_step(forget, retain)
        shared: Any = dict(ignore_index=ignore_index, label_smoothing=label_smoothing, detach_weights=detach_weights,
                           return_stats=True)  # fmt: skip
        loss_f, stats_f = loreun_cross_entropy(*forget[:3], eta=eta_f, direction="forget", loss_scale=loss_scale, **shared)
        loss_r, stats_r = loreun_cross_entropy(
            *retain[:3], eta=eta_r, direction="retain", loss_scale=alpha * loss_scale, **shared
        )
        return (loss_f + loss_r, (stats_f, stats_r)) if return_stats else loss_f + loss_r
    if torch.compiler.is_compiling():
        _check_step(forget, retain)
    settings = (eta_f, eta_r, alpha, detach_weights, ignore_index, label_smoothing, loss_scale)
    try:
        found = Step.apply(*forget[:3], *retain[:2], settings, return_stats)
    except RuntimeError:
        _check_step(forget, retain)
        raise
    if not return_stats:
        return found
    loss, *tables = found
    return loss, (_with_stats(loss, *tables[:2])[1], _with_stats(loss, *tables[2:])[1])


def _differentiable(*values: Any) -> bool:
    """Whether a gradient must flow into any of these: the kernels have none but that of their first argument."""
    return torch.is_grad_enabled() and any(isinstance(v, Tensor) and v.requires_grad for v in values)


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
    if values is None or not values.is_floating_point():
        return values
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    if values.dim() == 0 and values.device != like.device and values.device.type == "cpu":
        values = values.to(like.device)
    if values.dtype == dtype and values.is_contiguous():
        return values
    return values.detach().to(dtype).contiguous()


def _promoted(input: Tensor, target: Tensor, score_target: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    given = [t.dtype for t in (input, target, score_target) if t is not None]
    if len(set(given)) == 1 or not all(dtype.is_floating_point for dtype in given):
        return input, target, score_target
    dtype = functools.reduce(torch.promote_types, given)
    return input.to(dtype), target.to(dtype), None if score_target is None else score_target.to(dtype)


def _with_stats(loss: Tensor, table: Tensor, batch: Tensor) -> tuple[Tensor, Stats]:
    """What the kernels found of a batch, in the user's words."""
    return loss, _stats(table[0], table[1], torch.exp(table[2].double() - batch[0]).to(table.dtype))


def _stats(objective: Tensor, score: Tensor, weights: Tensor) -> Stats:
    weights = weights.detach()
    return Stats(objective.detach(), score.detach(), weights, 1 / weights.square().sum())


def _check_cross_entropy(
    logits: Tensor, target: Tensor, score_target: Tensor | None, score_loss: Tensor | None, ignore_index: int,
    label_smoothing: float, inplace: bool, names: tuple[str, str, str] = ("logits", "target", "score_target"),
) -> None:  # fmt: skip
    checks.logits(logits, names[0])
    checks.score_loss(score_loss, score_target, logits)
    checks.labels(target, logits, names[1], ignore_index)
    if score_target is not None:
        checks.labels(score_target, logits, names[2], None)
    checks.smoothing(label_smoothing)
    if inplace:
        checks.overwritable(logits)


def _check_step(forget: Any, retain: Any) -> None:
    _check_cross_entropy(*forget, ("forget_logits", "forget_target", "forget_clean"))
    _check_cross_entropy(*retain, ("retain_logits", "retain_target", ""))
    if retain[0].device != forget[0].device:
        raise ValueError(f"retain_logits is on {retain[0].device}, expected {forget[0].device}")


def _check_mean_squared(input: Tensor, target: Tensor, score_target: Tensor | None, score_loss: Tensor | None) -> None:
    checks.predictions(input, target)
    if score_target is not None:
        checks.predictions(input, score_target, "score_target")
    checks.score_loss(score_loss, score_target, input)
