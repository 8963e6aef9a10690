"""The public operator: what a call means. `calls` hands it to the compiled operator, or to plain PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from loreun_bench.ops import calls, checks, linear, native, reference

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Direction = Literal["forget", "retain"]
Distance = Literal["difference", "ratio"]


def backend(device: str | torch.device = "cpu") -> str:
    """What runs the operator on `device`: "reference" (plain PyTorch), "cuda", "cpu-avx512", …; every record says it."""
    if torch.device(device).type not in native.state()[0]:
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
    rank, and the gradient is scaled for data-parallel averaging. No second derivative, and no torch.func transform.

    Returns the scalar loss times loss_scale (float32 for 16-bit logits; float64 for float64), and `Stats` with
    `return_stats`. Raises ValueError on shapes, dtypes, devices, eta or a reference that do not fit, IndexError on a
    label out of range (on a GPU its row is NaN instead, as looking would wait for the device).
    Source: LoReUn (NeurIPS 2024 workshop), eqs. 4-6.
    """
    return calls.cross_entropy(
        logits, target, score_target, score_loss, eta, direction, ref_loss, distance, ignore_index, label_smoothing,
        detach_weights, loss_scale, inplace_backward, return_stats, process_group,
    )  # fmt: skip


def loreun_linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    score_target: Tensor | None = None,
    *,
    bias: Tensor | None = None,
    eta: float,
    direction: Direction,
    score_loss: Tensor | None = None,
    ref_loss: float | Tensor = 0.0,
    distance: Distance = "difference",
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    detach_weights: bool = True,
    loss_scale: float = 1.0,
    chunk_size: int | None = None,
    return_stats: bool = False,
    process_group: ProcessGroup | None = None,
) -> Any:
    """`loreun_cross_entropy` of hidden @ weight.T + bias, logits that never exist whole: for large vocabularies.

    hidden: [N, H] or [B, T, H], what a model's last linear layer reads; weight: [V, H] and bias: [V], that layer's, of
    the dtype and device of hidden (autocast is followed); target, score_target, score_loss, and ref_loss where it is no
    number: [N] or [B, T]. Every one of the N (or B·T) rows has a weight. Logits have the dtype of hidden.

    The logits are made once for the losses, chunk by chunk, and once more for the gradient, as no gradient is known
    before all weights are. chunk_size: how many exist at a time (at least one row of V, then one column of N); None:
    4 Mi, but no fewer than 128 rows, then 512 columns. A frozen weight saves a third of the backward pass.

    The other arguments, the result and the exceptions are those of `loreun_cross_entropy`; `Stats` have target's shape.
    With detach_weights=False gradients flow into score_loss and ref_loss too. No second derivative.
    Source: LoReUn (NeurIPS 2024 workshop), eqs. 4-6; the recomputed chunks are those of torch's linear_cross_entropy.
    """
    return linear.cross_entropy(
        hidden, weight, bias, target, score_target, score_loss, eta, direction, ref_loss, distance, ignore_index,
        label_smoothing, detach_weights, loss_scale, return_stats, process_group, chunk_size,
    )  # fmt: skip


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
    return calls.mean_squared(
        input, target, score_target, score_loss, eta, direction, ref_loss, distance, reduction,
        detach_weights, loss_scale, return_stats, process_group,
    )  # fmt: skip


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
    return calls.step(
        forget_logits, forget_target, forget_clean, retain_logits, retain_target, eta_f, eta_r, alpha,
        ignore_index, label_smoothing, detach_weights, loss_scale, return_stats,
    )  # fmt: skip
