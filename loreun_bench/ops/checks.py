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
    number(eta, "eta")
    if direction not in DIRECTIONS:
        raise ValueError(f"direction must be 'forget' or 'retain', got {direction!r}")
    if distance not in DISTANCES:
        raise ValueError(f"distance must be 'difference' or 'ratio', got {distance!r}")


def number(value: float, name: str) -> None:
    """Raises ValueError unless `value` is a finite number."""
    if not isinstance(value, (int, float)) or not math.isfinite(value):
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
        finite, positive = math.isfinite(ref_loss), ref_loss > SMALLEST
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
    if any(stride == 0 and size > 1 for stride, size in zip(values.stride(), values.shape, strict=True)):
        raise ValueError("inplace_backward cannot write over expanded logits: their rows share memory")


def predictions(input: Tensor, target: Tensor, name: str = "target") -> None:
    """Predictions [N, ...] and a target of their shape. Raises ValueError."""
    if input.dim() == 0 or input.dtype not in FLOATS:
        raise ValueError(f"input must be floating [N, ...], got {input.dtype} {tuple(input.shape)}")
    if target.shape != input.shape or target.dtype not in FLOATS:
        raise ValueError(f"{name} must be floating {tuple(input.shape)}, got {target.dtype} {tuple(target.shape)}")
    if target.device != input.device:
        raise ValueError(f"{name} is on {target.device}, expected {input.device}")


def _fake(values: Tensor) -> bool:
    return values.is_meta or isinstance(values, torch._subclasses.FakeTensor)
