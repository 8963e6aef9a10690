"""The public operator: what a call means. `calls` hands it to the compiled operator, or to plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from loreun_bench.ops import calls, checks, linear, native, rules, shapes
from loreun_bench.ops.rows import CrossEntropy, Losses, MeanSquared

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Direction = Literal["forget", "retain"]
Distance = Literal["difference", "ratio"]
Normalize = Literal["batch", "mean", "none"]
Weights = Literal["exp", "power", "probability", "satimp", "logistic"] | Callable[[Tensor], Tensor] | Tensor


def backend(device: str | torch.device = "cpu") -> str:
    """What runs the operator on `device`: "reference" (plain PyTorch), "cuda", "cpu-avx512", …; every record says it."""
    kind = torch.device(device).type
    if kind not in native.state()[0]:
        return "reference"
    return "cuda" if kind == "cuda" else f"cpu-{native.cpu_capability()}"


def loreun_cross_entropy(
    logits: Tensor, target: Tensor, score_target: Tensor | None = None, *, eta: float | Tensor | None = None,
    direction: Direction | None = None, score_loss: Tensor | None = None, ref_loss: float | Tensor = 0.0,
    distance: Distance = "difference", weights: Weights = "exp", normalize: Normalize = "batch", importance: float = 1.0,
    weight: Tensor | None = None, reduction: Literal["mean", "none"] = "mean", segment_ids: Tensor | None = None,
    num_segments: int | None = None, segment_reduction: Literal["mean", "sum"] = "mean",
    class_dim: Literal[1, -1] | None = None, ignore_index: int = -100, label_smoothing: float = 0.0,
    detach_weights: bool = True, loss_scale: float = 1.0, inplace_backward: bool = False, return_stats: bool = False,
    process_group: ProcessGroup | None = None,
) -> Any:  # fmt: skip
    """Cross entropy with LoReUn's weights: Σ wᵢ ℓ(logitsᵢ, targetᵢ), w = softmax(∓eta·d(score, ref)) over the batch.

    logits: [N, C], floating, any strides; or [N, C, L…] as torch has them, or [B, T, V] (`class_dim` says which where both
    fit). target: integers [N], [N, L…] or [B, T], the label that is optimised, or probabilities of the logits' shape.
    score_target: like the labels; the label whose loss sets the weight (None: the same); score_loss: [N], losses that set it
    instead (LoReUn-s). ref_loss: a number or [N]. direction "forget" gives small scores more weight (eq. 4), "retain" large
    ones (eq. 5); eta, a number or a tensor [], is 0 for the plain mean. weights, normalize, importance: see `rules.py`.
    weight: [C], torch's class weights. label_smoothing is of the objective only. Rows with target == ignore_index have
    weight 0; if all are ignored, or N = 0, the loss is NaN. With detach_weights no gradient flows through the weights.

    segment_ids: integers like the labels, sorted, 0 to num_segments - 1 (which, given, is not waited for on a GPU): rows are
    tokens, and what is weighed are sequences, whose losses are their tokens' mean or sum; score_loss and ref_loss are then
    [num_segments]. reduction "none" returns
    (losses, weights): torch's losses with that reduction, and what they are multiplied by in the sum that "mean" returns.
    inplace_backward: the backward pass writes the gradient over the logits and allocates nothing; autograd refuses whoever
    else needs them. process_group: the batch spans its ranks; the loss is that of the whole batch on every rank, and the
    gradient is scaled for data-parallel averaging. The kernels have no second derivative; under torch.func and forward-mode
    differentiation plain PyTorch computes the same.

    Returns the scalar loss times loss_scale (float32 for 16-bit logits; float64 for float64), and `Stats` with
    `return_stats`. Raises ValueError on shapes, dtypes, devices, eta, weights or a reference that do not fit, IndexError on
    a label out of range (on a GPU its row is NaN instead, as looking would wait for the device). Source: LoReUn (NeurIPS
    2024 workshop), eqs. 4-6.
    """
    if (
        isinstance(eta, float) and isinstance(weights, str) and isinstance(ref_loss, float)
        and score_loss is None and weight is None and segment_ids is None and process_group is None and class_dim is None
    ):  # fmt: skip
        words = (weights, normalize, distance, reduction, direction, ref_loss)
        rest = (ignore_index, label_smoothing, detach_weights, loss_scale, inplace_backward, return_stats)
        if (found := calls.quick(logits, target, score_target, eta, words, *rest)) is not None:
            return found
    w = rules.weighting(weights, eta, direction, ref_loss, distance, importance, normalize, detach_weights)
    rows = CrossEntropy(logits, target, score_target, weight, ignore_index, label_smoothing)
    answer = (checks.reduction(reduction), loss_scale, inplace_backward, return_stats)
    how = calls.How(w, score_loss, None, *answer, process_group)
    if segment_ids is not None or not shapes.plain(rows):
        return shapes.flattened(rows, how, class_dim, segment_ids, num_segments, segment_reduction)
    return calls.run(rows, how)


def loreun_linear_cross_entropy(
    hidden: Tensor, weight: Tensor, target: Tensor, score_target: Tensor | None = None, *, bias: Tensor | None = None,
    eta: float | Tensor | None = None, direction: Direction | None = None, score_loss: Tensor | None = None,
    ref_loss: float | Tensor = 0.0, distance: Distance = "difference", weights: Weights = "exp",
    normalize: Normalize = "batch", importance: float = 1.0, reduction: Literal["mean", "none"] = "mean",
    segment_ids: Tensor | None = None, num_segments: int | None = None,
    segment_reduction: Literal["mean", "sum"] = "mean", ignore_index: int = -100, label_smoothing: float = 0.0,
    detach_weights: bool = True, loss_scale: float = 1.0, chunk_size: int | None = None, return_stats: bool = False,
    process_group: ProcessGroup | None = None,
) -> Any:  # fmt: skip
    """`loreun_cross_entropy` of hidden @ weight.T + bias, logits that never exist whole: for large vocabularies.

    hidden: [N, H] or [B, T, H], what a model's last linear layer reads; weight: [V, H] (these are no class weights) and
    bias: [V], that layer's, of the dtype and device of hidden (autocast is followed); target, score_target, score_loss, and
    ref_loss where it is no number: [N] or [B, T]. Every one of the N (or B·T) rows has a weight, or, with segment_ids,
    every sequence. Logits have the dtype of hidden.

    The logits are made once for the losses, chunk by chunk, and once more for the gradient, as no gradient is known
    before all weights are. chunk_size: how many exist at a time (at least one row of V, then one column of N); None:
    4 Mi, but no fewer than 128 rows, then 512 columns. A frozen weight saves a third of the backward pass.

    The other arguments, the result and the exceptions are those of `loreun_cross_entropy`; `Stats` have target's shape.
    With detach_weights=False gradients flow into score_loss and ref_loss too. No second derivative.
    Source: LoReUn (NeurIPS 2024 workshop), eqs. 4-6; the recomputed chunks are those of torch's linear_cross_entropy.
    """
    w = rules.weighting(weights, eta, direction, ref_loss, distance, importance, normalize, detach_weights)
    hidden, weight, bias = linear.as_autocast(hidden, weight, bias)
    rows = linear.Linear(hidden, weight, bias, target, score_target, ignore_index, label_smoothing, chunk_size)
    how = calls.How(w, score_loss, None, checks.reduction(reduction), loss_scale, False, return_stats, process_group)
    return shapes.flattened_linear(rows, how, segment_ids, num_segments, segment_reduction)


def loreun_mse_loss(
    input: Tensor,
    target: Tensor,
    score_target: Tensor | None = None,
    *,
    eta: float | Tensor | None = None,
    direction: Direction | None = None,
    ref_loss: float | Tensor | None = None,
    distance: Distance = "ratio",
    weights: Weights = "exp",
    normalize: Normalize = "batch",
    importance: float = 1.0,
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
    usual = isinstance(weights, str) and (weights, normalize, distance, detach_weights) == ("exp", "batch", "ratio", True)
    if usual and isinstance(eta, float) and ref_loss is not None and score_loss is None and process_group is None:
        rest = (reduction, loss_scale, return_stats)
        if (found := calls.quick_squares(input, target, score_target, eta, direction, ref_loss, *rest)) is not None:
            return found
    w = rules.weighting(weights, eta, direction, ref_loss, distance, importance, normalize, detach_weights)
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction must be 'mean' or 'sum', got {reduction!r}")
    if target.dtype != input.dtype or (score_target is not None and score_target.dtype != input.dtype):
        input, target, score_target = shapes.promoted(input, target, score_target)
    how = calls.How(w, score_loss, scale=loss_scale, return_stats=return_stats, group=process_group)
    return calls.run(MeanSquared(input, target, score_target, reduction), how)


def loreun_losses(
    logits: Tensor,
    target: Tensor,
    score_target: Tensor | None = None,
    *,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Losses:
    """Objective and score loss of every row [N], both differentiable, from one pass over logits [N, C].

    What is between the operator's two passes is then all yours: `(w * losses.objective).sum()` with any w [N]. The
    arguments are those of `loreun_cross_entropy`, and so are the exceptions; an ignored row has the objective 0.
    """
    return calls.losses(CrossEntropy(logits, target, score_target, weight, ignore_index, label_smoothing))


def loreun_square_losses(
    input: Tensor, target: Tensor, score_target: Tensor | None = None, *, reduction: Literal["mean", "sum"] = "mean"
) -> Losses:
    """The same for the squared errors of `loreun_mse_loss`: input [N, …], losses [N]."""
    if target.dtype != input.dtype or (score_target is not None and score_target.dtype != input.dtype):
        input, target, score_target = shapes.promoted(input, target, score_target)
    return calls.losses(MeanSquared(input, target, score_target, reduction))


def loreun_weights(
    losses: Tensor,
    *,
    eta: float | Tensor | None = None,
    direction: Direction | None = None,
    ref_loss: float | Tensor = 0.0,
    distance: Distance = "difference",
    weights: Weights = "exp",
    normalize: Normalize = "batch",
    importance: float = 1.0,
) -> Tensor:
    """The batch's weights [N] for any per-sample losses [N] (LoReUn, eqs. 4 and 5); by default they sum to 1.

    Differentiable, and in plain PyTorch, as N numbers need no kernel. The arguments and exceptions are those of
    `loreun_cross_entropy`.
    """
    checks.losses(losses)
    w = rules.weighting(weights, eta, direction, ref_loss, distance, importance, normalize, False)
    checks.reference_loss(w.ref, w.ratio, losses, len(losses))
    return rules.weigh(losses, losses, None, None, w, 1.0).weights


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
    loss sets the weights (None: forget_target); retain_logits: [M, D]; retain_target: [M].
    The same as two calls of `loreun_cross_entropy`, "forget" with eta_f and "retain" with eta_r. Returns the loss, and
    with `return_stats` the two batches' `Stats`.
    """
    forget_target, retain_target = shapes.labels(forget_target), shapes.labels(retain_target)
    forget_clean = None if forget_clean is None else shapes.labels(forget_clean)
    return calls.step(
        forget_logits, forget_target, forget_clean, retain_logits, retain_target, eta_f, eta_r, alpha,
        ignore_index, label_smoothing, detach_weights, loss_scale, return_stats,
    )  # fmt: skip
