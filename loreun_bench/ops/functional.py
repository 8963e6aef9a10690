"""The public operator: arguments are checked here, the work is done by the active backend."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from loreun_bench.ops import reference

Direction = Literal["forget", "retain"]
Distance = Literal["difference", "ratio"]


class Stats(NamedTuple):
    """What `return_stats` adds: objective and score losses [N], weights [N], effective sample size 1/Σw² []."""

    objective: Tensor
    score: Tensor
    weights: Tensor
    effective_samples: Tensor


def backend() -> str:
    """The backend that runs the operator; every record is stamped with it."""
    return "reference"


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
    return_stats: bool = False,
) -> Any:
    """Cross entropy with LoReUn's weights: Σ wᵢ ℓ(logitsᵢ, targetᵢ), w = softmax(∓eta·d(score, ref)) over the batch.

    logits: [N, C], floating; target: [N] int64, the label that is optimised; score_target: [N], the label whose loss
    sets the weight (None: the same); score_loss: [N], losses that set the weight instead (LoReUn-s); ref_loss: a number
    or [N]. direction "forget" gives small scores more weight (eq. 4), "retain" large ones (eq. 5); eta = 0 is the plain
    mean. Rows with target == ignore_index have weight 0; if all are ignored, or N = 0, the loss is NaN.

    Returns the scalar loss (float32 for 16-bit logits), and `Stats` with `return_stats`.
    Raises ValueError on shapes, dtypes, eta or a reference that do not fit, IndexError on a label out of range (CPU).
    Source: LoReUn (NeurIPS 2024 workshop), eqs. 4-6.
    """
    _check_logits(logits, target, score_target, score_loss, ignore_index)
    _check_scores(eta, direction, ref_loss, distance, len(logits))
    loss, objective, score, w = reference.cross_entropy(
        logits, target, score_target, score_loss,
        eta=eta, direction=direction, ref_loss=ref_loss, distance=distance,
        ignore_index=ignore_index, label_smoothing=label_smoothing, detach_weights=detach_weights,
    )  # fmt: skip
    if return_stats:
        return loss, Stats(objective.detach(), score.detach(), w.detach(), 1 / w.detach().square().sum())
    return loss


def loreun_weights(
    losses: Tensor,
    *,
    eta: float,
    direction: Direction,
    ref_loss: float | Tensor = 0.0,
    distance: Distance = "difference",
) -> Tensor:
    """The batch's weights [N], summing to 1, for any per-sample losses [N] (LoReUn, eqs. 4 and 5).

    Raises ValueError on a wrong rank, a non-finite eta, or a reference that is not positive in ratio form.
    """
    if losses.dim() != 1 or not losses.is_floating_point():
        raise ValueError(f"losses must be floating [N], got {losses.dtype} {tuple(losses.shape)}")
    _check_scores(eta, direction, ref_loss, distance, len(losses))
    return reference.weights(losses, eta, direction, ref_loss, distance)


def _check_logits(
    logits: Tensor, target: Tensor, score_target: Tensor | None, score_loss: Tensor | None, ignore_index: int
) -> None:
    if logits.dim() != 2 or logits.shape[1] == 0 or not logits.is_floating_point():
        raise ValueError(f"logits must be floating [N, C] with C > 0, got {logits.dtype} {tuple(logits.shape)}")
    if score_target is not None and score_loss is not None:
        raise ValueError("give score_target or score_loss, not both")
    for name, labels in (("target", target), ("score_target", score_target)):
        if labels is None:
            continue
        if labels.shape != logits.shape[:1] or labels.dtype != torch.int64:
            raise ValueError(f"{name} must be int64 [{logits.shape[0]}], got {labels.dtype} {tuple(labels.shape)}")
        if labels.device.type == "cpu" and not torch.compiler.is_compiling() and labels.numel():
            wrong = (labels < 0) | (labels >= logits.shape[1])
            if name == "target":
                wrong &= labels != ignore_index
            if wrong.any():
                row = int(wrong.nonzero()[0])
                raise IndexError(f"{name}[{row}] = {int(labels[row])} is out of range for {logits.shape[1]} classes")
    if score_loss is not None and score_loss.shape != logits.shape[:1]:
        raise ValueError(f"score_loss must be [{logits.shape[0]}], got {tuple(score_loss.shape)}")


def _check_scores(eta: float, direction: str, ref_loss: float | Tensor, distance: str, count: int) -> None:
    if not math.isfinite(eta):
        raise ValueError(f"eta must be finite, got {eta}")
    if direction not in reference.SIGNS:
        raise ValueError(f"direction must be 'forget' or 'retain', got {direction!r}")
    if distance not in ("difference", "ratio"):
        raise ValueError(f"distance must be 'difference' or 'ratio', got {distance!r}")
    shape = tuple(ref_loss.shape) if isinstance(ref_loss, Tensor) else ()
    if shape not in ((), (count,)):
        raise ValueError(f"ref_loss must be a number or [{count}], got {shape}")
    values = torch.as_tensor(ref_loss)
    if torch.compiler.is_compiling() or values.device.type != "cpu":
        return
    if not bool(torch.isfinite(values).all()):
        raise ValueError("ref_loss must be finite")
    if distance == "ratio" and not bool((values > 0).all()):
        raise ValueError("ref_loss must be positive in ratio form")
