"""What is wrong with a call, in words: the argument, what it is, what was expected.

The compiled operator checks what keeps memory safe, and refuses in few words; these functions are asked when it did, so
that a good call does not pay for explanations. The pure PyTorch operator asks them first.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

DIRECTIONS = ("forget", "retain")
DISTANCES = ("difference", "ratio")
SMALLEST = torch.finfo(torch.float32).tiny  # dividing by less overflows
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def accumulator(like: Tensor) -> torch.dtype:
    """The type of the arithmetic on `like`."""
    return torch.float64 if like.dtype == torch.float64 else torch.float32


def settings(eta: Any, direction: Any, distance: str) -> tuple[float, Tensor | None]:
    """(eta as a number, a factor of it [] where it was given as a tensor). Raises ValueError."""
    if direction not in DIRECTIONS:
        raise ValueError(f"direction must be 'forget' or 'retain', got {direction!r}")
    if distance not in DISTANCES:
        raise ValueError(f"distance must be 'difference' or 'ratio', got {distance!r}")
    if type(eta) is float and -math.inf < eta < math.inf:
        return eta, None
    if isinstance(eta, Tensor):
        return 1.0, _scalar(eta)
    return number(eta, "eta"), None


def number(value: Any, name: str) -> float:
    """A number of any kind as a float. Raises ValueError unless it is one, and finite."""
    found = as_float(value)
    if not -math.inf < found < math.inf:
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    return found


def as_float(value: Any) -> float:
    """A number of any kind as a float, NaN if it is none."""
    if hasattr(value, "__float__") and not isinstance(value, Tensor):
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            return float(value)
    return math.nan


def _scalar(eta: Tensor) -> Tensor:
    """A tensor that is one number; looked at only where that does not wait for a GPU."""
    if eta.dim() or not eta.is_floating_point():
        raise ValueError(f"eta must be a finite number, got a tensor of {eta.dtype} {tuple(eta.shape)}")
    looked_at = eta.device.type == "cpu" and not torch.compiler.is_compiling() and not transformed() and not _fake(eta)
    if looked_at and not math.isfinite(float(eta)):
        raise ValueError(f"eta must be a finite number, got {eta!r}")
    return eta


def one_of(value: Any, name: str, choices: Iterable[str]) -> None:
    """Raises ValueError unless it is one of them."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def reduction(value: Any) -> str:
    """What becomes of the rows' losses. Raises ValueError."""
    if value not in ("mean", "none"):
        raise ValueError(f"reduction must be 'mean' or 'none', got {value!r}: normalize='none' is the weighted sum")
    return str(value)


def reference(rule: str, ref_loss: float | Tensor | None, distance: str) -> tuple[float | Tensor, bool]:
    """(the reference, whether losses are divided by it), as a named rule takes them. Raises ValueError."""
    given = ref_loss is not None and (isinstance(ref_loss, Tensor) or ref_loss != 0.0)
    ratio = distance == "ratio"
    if rule in ("probability", "satimp"):  # of a probability
        if given and (isinstance(ref_loss, Tensor) or ref_loss != 1.0 or not ratio):
            raise ValueError(f"weights={rule!r} has no reference: leave ref_loss out")
        return 0.0, False
    if rule == "power" and given and not ratio:
        raise ValueError("weights='power' takes a reference with distance='ratio' only: an excess may be negative")
    if isinstance(ref_loss, Tensor):
        return ref_loss, ratio
    found = 0.0 if ref_loss is None else as_float(ref_loss)
    if not -math.inf < found < math.inf:  # isfinite cannot be traced
        raise ValueError(f"ref_loss must be finite, got {ref_loss!r}")
    if ratio and found <= SMALLEST:
        raise ValueError(f"ref_loss must be positive in ratio form, got {ref_loss!r}")
    return found, ratio


def weights(found: Any, score: Tensor, look: bool = True) -> None:
    """What a function of the scores gave; its values are looked at on a CPU only, if at all. Raises ValueError."""
    if not isinstance(found, Tensor) or found.shape != score.shape or not found.is_floating_point():
        what = f"{found.dtype} {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"weights must give floating [{len(score)}], a weight for each score, gave {what}")
    if found.device != score.device:
        raise ValueError(f"weights gave a tensor on {found.device}, expected {score.device}")
    if not look or found.device.type != "cpu" or torch.compiler.is_compiling() or transformed() or _fake(found):
        return
    if not bool(((found >= 0) & (found < math.inf)).all()):
        row = int((~((found >= 0) & (found < math.inf))).nonzero()[0])
        raise ValueError(f"weights must be finite and not negative, gave {float(found[row])} for row {row}")


def class_weight(values: Tensor | None, classes: int, like: Tensor) -> None:
    """A weight for each class [C]. Raises ValueError."""
    if values is None:
        return
    if values.shape != (classes,) or not values.is_floating_point():
        raise ValueError(f"weight must be floating [{classes}], got {values.dtype} {tuple(values.shape)}")
    if values.device != like.device:
        raise ValueError(f"weight is on {values.device}, expected {like.device}")
    if values.device.type == "cpu" and not torch.compiler.is_compiling() and not transformed() and bool((values < 0).any()):
        raise ValueError("weight must not be negative")


def segments(ids: Tensor, shape: Sequence[int], like: Tensor, count: int | None) -> int:
    """How many segments there are: the last id and 1, or `count`. ids: sorted, from 0, none left out [N].

    Their values are looked at on a CPU only; without `count` the last one is waited for on a GPU. Raises ValueError."""
    if ids.shape != shape or ids.is_floating_point() or ids.dtype == torch.bool:
        raise ValueError(f"segment_ids must be integers {list(shape)}, got {ids.dtype} {list(ids.shape)}")
    if ids.device != like.device:
        raise ValueError(f"segment_ids are on {ids.device}, expected {like.device}")
    if ids.numel() == 0:
        return count or 0
    flat = ids.reshape(-1)
    found = int(flat[-1]) + 1 if count is None else count
    if ids.device.type == "cpu" and not torch.compiler.is_compiling():
        if int(flat[0]) < 0 or bool((flat[1:] < flat[:-1]).any()):
            raise ValueError("segment_ids must be sorted and not negative")
        missing = set(range(found)) - set(flat.unique().tolist())
        if missing or int(flat[-1]) >= found:
            what = f"segment {min(missing)} has no row" if missing else f"there is a segment {int(flat[-1])}"
            raise ValueError(f"segment_ids must be 0 to {found - 1}, none left out: {what}")
    return found


def transformed() -> bool:
    """Whether torch.func or forward-mode differentiation is under way: plain PyTorch has every derivative they ask for."""
    return torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0


def reference_loss(ref_loss: float | Tensor, ratio: bool, like: Tensor, rows: int) -> None:
    """The reference: a number or [N]; positive in ratio form (looked at only where that does not wait for a GPU)."""
    if isinstance(ref_loss, Tensor):
        if tuple(ref_loss.shape) not in ((), (rows,)):
            raise ValueError(f"ref_loss must be a number or [{rows}], got {tuple(ref_loss.shape)}")
        if not ref_loss.is_floating_point():
            raise ValueError(f"ref_loss must be floating, got {ref_loss.dtype}")
        if ref_loss.device != like.device and (ref_loss.dim() or ref_loss.device.type != "cpu"):
            raise ValueError(f"ref_loss is on {ref_loss.device}, expected {like.device}")
        if torch.compiler.is_compiling() or transformed() or ref_loss.device.type != "cpu":
            return
        values = ref_loss.to(accumulator(like))
        finite, positive = bool(torch.isfinite(values).all()), bool((values > 0).all())
    else:
        return
    if not finite:
        raise ValueError("ref_loss must be finite")
    if ratio and not positive:
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
    if values.device.type != "cpu" or torch.compiler.is_compiling() or transformed() or _fake(values):
        return
    wrong = (values < 0) | (values >= classes)
    if ignore_index is not None:
        wrong &= values != ignore_index
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise IndexError(f"{name}[{row}] = {int(values[row])} is out of range for {classes} classes")


def score_loss(values: Tensor | None, score_target: Tensor | None, like: Tensor, rows: int) -> None:
    """Given scores [N]. Raises ValueError."""
    if values is None:
        return
    if score_target is not None:
        raise ValueError("give score_target or score_loss, not both")
    if values.shape != (rows,) or not values.is_floating_point():
        raise ValueError(f"score_loss must be floating [{rows}], got {values.dtype} {tuple(values.shape)}")
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
    values: Tensor, target: Tensor, score_target: Tensor | None, of_class: Tensor | None, ignore_index: int,
    label_smoothing: float, scores: Tensor | None, ref_loss: float | Tensor, ratio: bool, inplace: bool,
    names: tuple[str, str, str] = ("logits", "target", "score_target"), rows: int | None = None,
) -> None:  # fmt: skip
    """All of a `loreun_cross_entropy` call; rows: what weights are for, if not rows. Raises ValueError, IndexError."""
    logits(values, names[0])
    count = len(values) if rows is None else rows
    score_loss(scores, score_target, values, count)
    if target.is_floating_point():
        probabilities(target, values, names[1])
    else:
        labels(target, values, names[1], ignore_index)
    if score_target is not None:
        _score_labels(score_target, target, values, names[2], ignore_index)
    class_weight(of_class, values.shape[1], values)
    smoothing(label_smoothing)
    if inplace:
        overwritable(values)
    reference_loss(ref_loss, ratio, values, count)


def _score_labels(values: Tensor, target: Tensor, of: Tensor, name: str, ignore_index: int) -> None:
    """Padding is padding in both; an index to ignore that is a class is one that a score may be of."""
    padding = not target.is_floating_point() and not 0 <= ignore_index < of.shape[1]
    labels(values, of, name, ignore_index if padding else None)
    if not padding or of.device.type != "cpu" or torch.compiler.is_compiling() or transformed() or _fake(of):
        return
    apart = (values == ignore_index) & (target != ignore_index)
    if bool(apart.any()):
        raise IndexError(f"{name}[{int(apart.nonzero()[0])}] = {ignore_index} is ignored, but its row's target is not")


def probabilities(values: Tensor, of: Tensor, name: str) -> None:
    """Probabilities [N, C] in place of labels. Raises ValueError."""
    if values.shape != of.shape:
        rows, classes = of.shape
        found = f"{values.dtype} {tuple(values.shape)}"
        raise ValueError(f"{name} must be int64 [{rows}], or probabilities [{rows}, {classes}], got {found}")
    if values.device != of.device:
        raise ValueError(f"{name} is on {values.device}, expected {of.device}")
    if values.device.type != "cpu" or torch.compiler.is_compiling() or transformed() or _fake(values) or not len(values):
        return
    if not bool(((values >= 0) & (values <= 1)).all()) or bool(((values.sum(1) - 1).abs() > 0.01).any()):
        raise ValueError(f"{name} must be labels, or probabilities that sum to 1 in each row")


def mean_squared(
    input: Tensor, target: Tensor, score_target: Tensor | None, scores: Tensor | None, ref_loss: float | Tensor, ratio: bool
) -> None:
    """All of a `loreun_mse_loss` call. Raises ValueError."""
    predictions(input, target)
    if score_target is not None:
        predictions(input, score_target, "score_target")
    score_loss(scores, score_target, input, len(input))
    reference_loss(ref_loss, ratio, input, len(input))


def linear(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, score_target: Tensor | None,
    chunk_size: int | None,
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
    for values, name in ((target, "target"), (score_target, "score_target")):
        if values is not None and values.shape != hidden.shape[:-1]:
            raise ValueError(f"{name} must be {list(hidden.shape[:-1])}, got {tuple(values.shape)}")
    if chunk_size is not None and not (isinstance(chunk_size, int) and chunk_size > 0):
        raise ValueError(f"chunk_size must be a positive whole number, got {chunk_size!r}")


def step(
    forget_logits: Tensor, forget_target: Tensor, forget_clean: Tensor | None, retain_logits: Tensor,
    retain_target: Tensor, ignore_index: int, label_smoothing: float,
) -> None:  # fmt: skip
    """All of a `loreun_step` call. Raises ValueError, IndexError."""
    rest = (None, ignore_index, label_smoothing, None, 0.0, False, False)
    for values, of, name in (
        (forget_target, forget_logits, "forget_target"), (retain_target, retain_logits, "retain_target")
    ):  # fmt: skip
        if values.is_floating_point() and of.dim() == 2:
            labels(values, of, name, ignore_index)  # no probabilities here
    names = ("forget_logits", "forget_target", "forget_clean"), ("retain_logits", "retain_target", "")
    cross_entropy(forget_logits, forget_target, forget_clean, *rest, names[0])
    cross_entropy(retain_logits, retain_target, None, *rest, names[1])
    if retain_logits.device != forget_logits.device:
        raise ValueError(f"retain_logits is on {retain_logits.device}, expected {forget_logits.device}")


def _fake(values: Tensor) -> bool:
    return values.is_meta or isinstance(values, torch._subclasses.FakeTensor)
