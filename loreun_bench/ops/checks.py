"""What is wrong with a call, in words: the argument, what it is, what was expected.

The compiled operator checks what keeps memory safe, and refuses in few words; these functions are asked when it did, so
that a good call does not pay for explanations. The pure PyTorch operator asks them first.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

DIRECTIONS = ("forget", "retain")
DISTANCES = ("difference", "ratio")
SMALLEST = torch.finfo(torch.float32).tiny  # dividing by less overflows
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def settings(eta: float, direction: str, distance: str) -> None:
    """The words and numbers of a weighting. Raises ValueError."""
    if not isinstance(eta, (int, float)) or not -math.inf < eta < math.inf:
        number(eta, "eta")
    if direction not in DIRECTIONS:
        raise ValueError(f"direction must be 'forget' or 'retain', got {direction!r}")
    if distance not in DISTANCES:
        raise ValueError(f"distance must be 'difference' or 'ratio', got {distance!r}")


def number(value: float, name: str) -> None:
    """Raises ValueError unless `value` is a finite number."""
    if not isinstance(value, (int, float)) or not -math.inf < value < math.inf:
        raise ValueError(f"{name} must be a finite number, got {value!r}")


def reference_loss(ref_loss: float | Tensor, distance: str, like: Tensor) -> None:
    """The reference: a number or [N]; positive in ratio form (looked at only where that does not wait for a GPU)."""
    if isinstance(ref_loss, Tensor):
        if tuple(ref_loss.shape) not in ((), (like.shape[0],)):
            raise ValueError(f"ref_loss must be a number or [{like.shape[0]}], got {tuple(ref_loss.shape)}")
        if not ref_loss.is_floating_point():
            raise ValueError(f"ref_loss must be floating, got {ref_loss.dtype}")
        if ref_loss.device != like.device and (ref_loss.dim() or ref_loss.device.type != "cpu"):
            raise ValueError(f"ref_loss is on {ref_loss.device}, expected {like.device}")
        if torch.compiler.is_compiling() or ref_loss.device.type != "cpu":
            return
        values = ref_loss.to(like.dtype if like.dtype == torch.float64 else torch.float32)
        finite, positive = bool(torch.isfinite(values).all()), bool((values > 0).all())
    else:
        finite, positive = -math.inf < ref_loss < math.inf, ref_loss > SMALLEST  # isfinite cannot be traced
    if not finite:
        raise ValueError("ref_loss must be finite")
    if distance == "ratio" and not positive:
        raise ValueError("ref_loss must be positive in ratio form")


def losses(values: Tensor) -> None:
    """Per-sample losses [N]. Raises ValueError."""
    if values.dim() != 1 or not values.is_floating_point():
        raise ValueError(f"losses must be floating [N], got {values.dtype} {tuple(values.shape)}")


def logits(values: Tensor, name: str = "logits") -> None:
    """Logits [N, C]. Raises ValueError."""
    if values.dim() != 2 or values.shape[1] == 0 or values.dtype not in FLOATS:
        raise ValueError(f"{name} must be floating [N, C] with C > 0, got {values.dtype} {tuple(values.shape)}")


def labels(values: Tensor, of: Tensor, name: str, ignore_index: int | None) -> None:
    """Labels [N] of logits [N, C]; looked at on a CPU only. Raises ValueError, IndexError."""
    rows, classes = of.shape
    if values.shape != (rows,) or values.dtype != torch.int64:
        raise ValueError(f"{name} must be int64 [{rows}], got {values.dtype} {tuple(values.shape)}")
    if values.device != of.device:
        raise ValueError(f"{name} is on {values.device}, expected {of.device}")
    if values.device.type != "cpu" or torch.compiler.is_compiling() or _fake(values):
        return
    wrong = (values < 0) | (values >= classes)
    if ignore_index is not None:
        wrong &= values != ignore_index
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise IndexError(f"{name}[{row}] = {int(values[row])} is out of range for {classes} classes")


def score_loss(values: Tensor | None, score_target: Tensor | None, like: Tensor) -> None:
    """Given scores [N]. Raises ValueError."""
    if values is None:
        return
    if score_target is not None:
        raise ValueError("give score_target or score_loss, not both")
    if values.shape != like.shape[:1] or not values.is_floating_point():
        raise ValueError(f"score_loss must be floating [{like.shape[0]}], got {values.dtype} {tuple(values.shape)}")
    if values.device != like.device:
        raise ValueError(f"score_loss is on {values.device}, expected {like.device}")


def smoothing(label_smoothing: float) -> None:
    """Raises ValueError outside [0, 1]."""
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"label_smoothing must be in [0, 1], got {label_smoothing}")


def overwritable(values: Tensor) -> None:
    """Whether a gradient may be written over logits. Raises ValueError."""
    if values.is_leaf and not torch.compiler.is_compiling():
        raise ValueError("inplace_backward writes the gradient over logits: they must come from a model, not be a leaf")
    span = sum((size - 1) * stride for size, stride in zip(values.shape, values.stride(), strict=True)) + 1
    if values.numel() > span:
        raise ValueError("inplace_backward cannot write over logits whose elements share memory (expanded, say)")


def predictions(input: Tensor, target: Tensor, name: str = "target") -> None:
    """Predictions [N, ...] and a target of their shape. Raises ValueError."""
    if input.dim() == 0 or input.dtype not in FLOATS:
        raise ValueError(f"input must be floating [N, ...], got {input.dtype} {tuple(input.shape)}")
    if target.shape != input.shape or target.dtype not in FLOATS:
        raise ValueError(f"{name} must be floating {tuple(input.shape)}, got {target.dtype} {tuple(target.shape)}")
    if target.device != input.device:
        raise ValueError(f"{name} is on {target.device}, expected {input.device}")


def cross_entropy(
    values: Tensor, target: Tensor, score_target: Tensor | None, scores: Tensor | None, ref_loss: float | Tensor,
    distance: str, ignore_index: int, label_smoothing: float, inplace: bool,
    names: tuple[str, str, str] = ("logits", "target", "score_target"),
) -> None:  # fmt: skip
    """All of a `loreun_cross_entropy` call. Raises ValueError, IndexError."""
    logits(values, names[0])
    score_loss(scores, score_target, values)
    labels(target, values, names[1], ignore_index)
    if score_target is not None:
        labels(score_target, values, names[2], None)
    smoothing(label_smoothing)
    if inplace:
        overwritable(values)
    reference_loss(ref_loss, distance, values)


def mean_squared(
    input: Tensor, target: Tensor, score_target: Tensor | None, scores: Tensor | None, ref_loss: float | Tensor,
    distance: str, reduction: str,
) -> None:  # fmt: skip
    """All of a `loreun_mse_loss` call. Raises ValueError."""
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction must be 'mean' or 'sum', got {reduction!r}")
    predictions(input, target)
    if score_target is not None:
        predictions(input, score_target, "score_target")
    score_loss(scores, score_target, input)
    reference_loss(ref_loss, distance, input)


def linear(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, score_target: Tensor | None,
    scores: Tensor | None, chunk_size: int | None,
) -> None:  # fmt: skip
    """What only a `loreun_linear_cross_entropy` call has; `cross_entropy` is asked for the rest. Raises ValueError."""
    if hidden.dim() < 2 or hidden.dtype not in FLOATS:
        raise ValueError(f"hidden must be floating [N, H] or [B, T, H], got {hidden.dtype} {tuple(hidden.shape)}")
    width = hidden.shape[-1]
    if weight.dim() != 2 or weight.shape[1] != width or weight.shape[0] == 0:
        raise ValueError(f"weight must be [V, {width}] with V > 0, got {tuple(weight.shape)}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias must be [{weight.shape[0]}], got {tuple(bias.shape)}")
    for values, name in ((weight, "weight"), (bias, "bias")):
        if values is not None and values.dtype != hidden.dtype:
            raise ValueError(f"{name} is {values.dtype}, expected {hidden.dtype} as hidden")
        if values is not None and values.device != hidden.device:
            raise ValueError(f"{name} is on {values.device}, expected {hidden.device}")
    for values, name in ((target, "target"), (score_target, "score_target"), (scores, "score_loss")):
        if values is not None and values.shape != hidden.shape[:-1]:
            raise ValueError(f"{name} must be {list(hidden.shape[:-1])}, got {tuple(values.shape)}")
    if chunk_size is not None and not (isinstance(chunk_size, int) and chunk_size > 0):
        raise ValueError(f"chunk_size must be a positive whole number, got {chunk_size!r}")


def step(
    forget_logits: Tensor, forget_target: Tensor, forget_clean: Tensor | None, retain_logits: Tensor,
    retain_target: Tensor, ignore_index: int, label_smoothing: float,
) -> None:  # fmt: skip
    """All of a `loreun_step` call. Raises ValueError, IndexError."""
    rest = (0.0, "difference", ignore_index, label_smoothing, False)
    names = ("forget_logits", "forget_target", "forget_clean"), ("retain_logits", "retain_target", "")
    cross_entropy(forget_logits, forget_target, forget_clean, None, *rest, names[0])
    cross_entropy(retain_logits, retain_target, None, None, *rest, names[1])
    if retain_logits.device != forget_logits.device:
        raise ValueError(f"retain_logits is on {retain_logits.device}, expected {forget_logits.device}")


def _fake(values: Tensor) -> bool:
    return values.is_meta or isinstance(values, torch._subclasses.FakeTensor)
