"""From the shapes and types that torch's losses take to the operator's [N, C] and [N]."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import torch
from torch import Tensor

from loreun_bench.ops import calls, checks
from loreun_bench.ops.linear import Linear
from loreun_bench.ops.rows import CrossEntropy

INTEGERS = (torch.int8, torch.int16, torch.int32, torch.uint8)


def plain(rows: CrossEntropy) -> bool:
    """Whether the kernels take the labels as they are. (What fits nothing is left for them to refuse.)"""
    labels = (rows.target,) if rows.score_target is None else (rows.target, rows.score_target)
    return rows.logits.dim() <= 2 and all(t.dtype not in INTEGERS for t in labels)


def labels(values: Tensor) -> Tensor:
    """Labels of any integer type as int64."""
    return values.long() if values.dtype in INTEGERS else values


def flattened(
    rows: CrossEntropy, how: calls.How, class_dim: int | None, segment_ids: Tensor | None, num_segments: int | None,
    segment_reduction: str,
) -> Any:  # fmt: skip
    """A cross entropy of any shape as one of [N, C], its answer in the labels' shape. Raises ValueError."""
    if how.inplace:
        checks.overwritable(rows.logits)  # as given: a view of it is no leaf
    probable = _probable(rows.logits, rows.target)
    shape, last = _layout(rows.logits, rows.target, class_dim)
    rows = dataclasses.replace(
        rows,
        logits=last(rows.logits).flatten(0, -2),
        target=last(rows.target).flatten(0, -2) if probable else _line(rows.target, shape, "target"),
        score_target=None if rows.score_target is None else _line(rows.score_target, shape, "score_target"),
    )
    return _answered(rows, how, shape, segment_ids, num_segments, segment_reduction)


def flattened_linear(
    rows: Linear, how: calls.How, segment_ids: Tensor | None, num_segments: int | None, segment_reduction: str
) -> Any:
    """The same for a linear layer, whose labels have the shape of hidden's rows."""
    checks.linear(rows.hidden, rows.weight, rows.bias, rows.target, rows.score_target, rows.chunk_size)
    shape = rows.hidden.shape[:-1]
    rows = dataclasses.replace(
        rows,
        hidden=rows.hidden.flatten(0, -2),
        target=_line(rows.target, shape, "target"),
        score_target=None if rows.score_target is None else _line(rows.score_target, shape, "score_target"),
    )
    return _answered(rows, how, shape, segment_ids, num_segments, segment_reduction)


def _answered(
    rows: Any, how: calls.How, shape: torch.Size, segment_ids: Tensor | None, number: int | None, segment_reduction: str
) -> Any:
    if segment_ids is not None:
        checks.one_of(segment_reduction, "segment_reduction", ("mean", "sum"))
        count = checks.segments(segment_ids, shape, rows.x, number)
        how = how._replace(segments=calls.Segments(segment_ids.long().flatten(), count, segment_reduction == "mean"))
    else:
        how = _per_row(how, shape)
    answer = calls.run(rows, how)
    if len(shape) == 1 or how.segments or not (how.return_stats or how.reduction == "none"):
        return answer
    if how.return_stats:
        loss, stats = answer
        objective, score, weights = (value.view(shape) for value in stats[:3])
        return _shaped(loss, shape, how.reduction), calls.Stats(objective, score, weights, stats.effective_samples)
    return _shaped(answer, shape, how.reduction)


def _layout(logits: Tensor, target: Tensor, class_dim: int | None) -> tuple[torch.Size, Any]:
    """(the labels' shape, what moves the classes to the end)."""
    first = torch.Size((*logits.shape[:1], *logits.shape[2:]))
    last = logits.shape[:-1]
    if class_dim not in (None, 1, -1):
        raise ValueError(f"class_dim must be 1 or -1, got {class_dim}")
    if logits.dim() < 2:
        raise ValueError(f"logits must be [N, C], [N, C, …] or [B, T, V], got {list(logits.shape)}")
    as_labels = target.shape if not _probable(logits, target) else first if class_dim != -1 else last
    found = [dim for dim, shape in ((1, first), (-1, last)) if as_labels == shape and class_dim in (None, dim)]
    if not found:
        wanted = f"{list(first)} or {list(last)} for logits {list(logits.shape)}"
        raise ValueError(f"target must be {wanted}, got {list(target.shape)}")
    if len(found) == 2 and logits.dim() > 2:
        raise ValueError(
            f"logits {list(logits.shape)} and target {list(target.shape)} can be read in two ways: give class_dim=1 for "
            "[N, C, L] as torch has them, or class_dim=-1 for [B, T, V]"
        )
    if found[0] == 1 and logits.dim() > 2:
        return first, lambda values: values.movedim(1, -1)
    return last, lambda values: values


def _probable(logits: Tensor, target: Tensor) -> bool:
    return target.is_floating_point() and target.shape == logits.shape


def _line(values: Tensor, shape: torch.Size, name: str) -> Tensor:
    """Labels of that shape as int64 [N]."""
    if values.shape != shape:
        raise ValueError(f"{name} must be {list(shape)}, got {list(values.shape)}")
    return labels(values).flatten()


def _per_row(how: calls.How, shape: torch.Size) -> calls.How:
    """Scores and references of the labels' shape as [N]."""
    if how.score_loss is not None and how.score_loss.shape == shape:
        how = how._replace(score_loss=how.score_loss.flatten())
    ref = how.weighting.ref
    if isinstance(ref, Tensor) and ref.shape == shape:
        how = how._replace(weighting=how.weighting._replace(ref=ref.flatten()))
    return how


def _shaped(answer: Any, shape: torch.Size, reduction: str) -> Any:
    return tuple(value.view(shape) for value in answer) if reduction == "none" else answer


def promoted(input: Tensor, target: Tensor, score_target: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """All in the type that holds them all; what is not floating is left for the checks to refuse."""
    given = [t.dtype for t in (input, target, score_target) if t is not None]
    if not all(dtype.is_floating_point for dtype in given):
        return input, target, score_target
    dtype = functools.reduce(torch.promote_types, given)
    return input.to(dtype), target.to(dtype), None if score_target is None else score_target.to(dtype)
