"""Cross entropy of logits = hidden @ weight.T + bias that never exist whole: they are made twice, a chunk at a time.

Pass 1 takes some rows at a time and keeps six numbers of each. What happens to the rows' losses then is plain PyTorch on
[N] numbers, and autograd brings back a coefficient for each. Pass 2 takes some classes at a time, of all rows: so the
gradient of `weight` is written once, in its own type, and only that of `hidden`, which is smaller, is a sum over chunks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from loreun_bench.ops import checks, native, reference
from loreun_bench.ops.autograd import UNWEIGHTED, refuse_double_backward
from loreun_bench.ops.rules import Weighting

CHUNK = 1 << 22  # logits at a time, as many as a cache holds; see benchmarks/linear.py
IGNORED = -(1 << 40)  # a label that no class is as far from
FEWEST_ROWS, FEWEST_CLASSES = 128, 512  # but no fewer of these at a time: products would wait for memory


@dataclass(frozen=True)
class Linear:
    """The rows of a `loreun_linear_cross_entropy` call: as CrossEntropy in `rows.py`, without logits."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None
    target: Tensor
    score_target: Tensor | None
    ignore_index: int = -100
    label_smoothing: float = 0.0
    chunk_size: int | None = None

    kind: ClassVar = "linear"
    class_weight: ClassVar = None

    @property
    def x(self) -> Tensor:
        """What there is a row of for each label."""
        return self.hidden

    def check(self, score_loss: Tensor | None, w: Weighting, inplace: bool = False, rows: int | None = None) -> None:
        """All that can be wrong, in words."""
        logits = self.hidden.new_empty(()).expand(len(self.hidden), len(self.weight))  # their shape without their memory
        labels = self.target, self.score_target, None
        checks.cross_entropy(
            logits, *labels, *self.shared, score_loss, w.ref, w.ratio, False, rows=rows
        )

    def fits(self) -> bool:
        """One pass of a kernel is not enough."""
        return False

    @property
    def shared(self) -> tuple[int, float]:
        """What both passes are told beside tensors."""
        return self.ignore_index, self.label_smoothing

    def losses(self, compiled: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """The losses; each chunk's come from the compiled operator where it serves, whatever is asked for."""
        labels = self.target, self.score_target
        of, by = Chunks.apply(self.hidden, self.weight, self.bias, *labels, *self.shared, self.chunk_size)
        return of, of if self.score_target is None and not self.label_smoothing else by, self.target != self.ignore_index

    def prior(self) -> Tensor | None:
        """No class weights."""
        return None


class Chunks(torch.autograd.Function):
    """(objective losses [N], score losses [N]), differentiable in hidden, weight and bias."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, score_target: Tensor | None,
        ignore_index: int, label_smoothing: float, chunk_size: int | None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Pass 1, over rows."""
        tables, memory = [], hidden.new_empty(0)
        for rows in _pieces(len(hidden), len(weight), FEWEST_ROWS, chunk_size):
            logits = memory = logits_of(hidden[rows], weight, bias, memory)
            labels = target[rows], None if score_target is None else score_target[rows]
            tables.append(losses_of_rows(logits, *labels, ignore_index, label_smoothing))
        table = torch.cat(tables, 1)
        ctx.save_for_backward(hidden, weight, bias, target, score_target, table)
        ctx.settings, ctx.chunk_size = (ignore_index, label_smoothing), chunk_size
        ctx.set_materialize_grads(False)
        return table[0].clone(), table[1].clone()

    @staticmethod
    def backward(ctx: Any, grad_objective: Tensor | None, grad_score: Tensor | None) -> Any:
        """Pass 2, over classes."""
        refuse_double_backward("loreun_linear_cross_entropy")
        hidden, weight, bias, target, score_target, table = ctx.saved_tensors
        of, by = (torch.zeros_like(table[0]) if g is None else g.contiguous() for g in (grad_objective, grad_score))
        rows = Known(target, score_target, table, (of, by), len(weight), *ctx.settings)
        for_hidden, for_weight, for_bias = ctx.needs_input_grad[:3]
        grad_hidden = torch.zeros_like(hidden, dtype=table.dtype) if for_hidden else None
        grad_weight = torch.empty_like(weight) if for_weight else None
        grad_bias = torch.empty_like(bias) if for_bias else None
        memory = hidden.new_empty(0)
        for classes in _pieces(len(weight), len(hidden), FEWEST_CLASSES, ctx.chunk_size):
            part = weight[classes]
            logits = memory = logits_of(hidden, part, None if bias is None else bias[classes], memory)
            grad = gradient_of_rows(logits, rows, classes.start)
            if grad_hidden is not None:
                _add_product(grad_hidden, grad, part)
            if grad_weight is not None:
                torch.mm(grad.T, hidden, out=grad_weight[classes])
            if grad_bias is not None:
                grad_bias[classes] = grad.sum(0, dtype=table.dtype)
        return None if grad_hidden is None else grad_hidden.to(hidden.dtype), grad_weight, grad_bias, *(None,) * 5


class Known:
    """What pass 2 knows of the rows. table: the operator's [6, N]; coefficients: of both losses, [N] each."""

    def __init__(
        self, target: Tensor, score_target: Tensor | None, table: Tensor, coefficients: tuple[Tensor, Tensor], classes: int,
        ignore_index: int, label_smoothing: float,
    ) -> None:  # fmt: skip
        self.target, self.score_target = target, target if score_target is None else score_target
        self.ignored, self.table, self.coefficients = target == ignore_index, table, coefficients
        self.smoothing, self.classes = label_smoothing, classes

    def labels(self, first: int) -> tuple[Tensor, Tensor]:
        """Of both losses among the classes from `first` on; elsewhere they are no class, and a row to ignore is IGNORED."""
        return tuple((labels - first).masked_fill(self.ignored, IGNORED) for labels in (self.target, self.score_target))  # type: ignore[return-value]


def logits_of(hidden: Tensor, weight: Tensor, bias: Tensor | None, memory: Tensor) -> Tensor:
    """hidden @ weight.T + bias, in the memory of a chunk before that was as large or larger, or else in new memory."""
    shape = len(hidden), len(weight)
    fits = memory.numel() >= shape[0] * shape[1]
    into = memory.view(-1)[: shape[0] * shape[1]].view(shape) if fits else hidden.new_empty(shape)
    return torch.mm(hidden, weight.T, out=into) if bias is None else torch.addmm(bias, hidden, weight.T, out=into)


def losses_of_rows(
    logits: Tensor, target: Tensor, score_target: Tensor | None, ignore_index: int, label_smoothing: float
) -> Tensor:
    """The operator's table of [n, V] logits, [6, n]: objective and score loss first, then, of the last two rows, the largest
    logit and the log of the sum of exp(logit - largest)."""
    if native.serves(logits):
        nothing, shared = (None,) * 4, (ignore_index, label_smoothing, 1.0, False)
        table: Tensor = torch.ops.loreun.ce_forward.default(logits, target, score_target, *nothing, *UNWEIGHTED, *shared)[1]
        return table
    objective, score, _ = reference.cross_entropy(logits, target, score_target, None, ignore_index, label_smoothing)
    largest = logits.amax(1).to(objective.dtype)
    log_sum = torch.logsumexp(logits - largest.unsqueeze(1), 1)
    zero = torch.zeros_like(largest)
    return torch.stack([objective, score, zero, zero, largest, log_sum])


def gradient_of_rows(logits: Tensor, rows: Known, first: int) -> Tensor:
    """Writes the gradient over the logits [N, v] of v classes from `first` on, and returns them."""
    labels, coefficients = rows.labels(first), rows.coefficients
    if rows.smoothing or not native.serves(logits):  # of all classes, which the operator does not know here
        return _gradient_in_pytorch(logits, rows, labels)
    batch = rows.table.new_zeros(3, dtype=torch.float64)
    settings = (IGNORED, 0.0, 1.0)
    torch.ops.loreun.ce_backward_.default(None, logits, *labels, rows.table, batch, *coefficients, *settings, None)
    return logits


def _gradient_in_pytorch(logits: Tensor, rows: Known, labels: tuple[Tensor, Tensor]) -> Tensor:
    grad = logits.to(rows.table.dtype)
    objective, score, largest, log_sum = (each.unsqueeze(1) for each in (*rows.coefficients, *rows.table[4:]))
    grad.sub_(largest).sub_(log_sum).exp_().mul_(objective + score)
    if rows.smoothing:
        grad.sub_(objective * (rows.smoothing / rows.classes))
    for label, coefficient in zip(labels, (objective * (1 - rows.smoothing), score), strict=True):
        column = label.unsqueeze(1)
        place = column.clamp(0, grad.shape[1] - 1)
        grad.scatter_add_(1, place, -coefficient * (place == column))
    grad.masked_fill_(rows.ignored.unsqueeze(1), 0.0)  # whatever its logits were
    return grad if grad is logits else logits.copy_(grad)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left @ right, where total may be of a wider type."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total.add_(left @ right)


def _pieces(count: int, other: int, least: int, chunk_size: int | None) -> Iterator[slice]:
    """Slices that cover `count` rows or classes, of nothing one; with `other` of the others they make a chunk."""
    other = max(1, other)
    size = max(CHUNK // other, least) if chunk_size is None else max(chunk_size // other, 1)
    for start in range(0, max(1, count), size):
        yield slice(start, min(start + size, count))


def as_autocast(hidden: Tensor, *others: Tensor | None) -> Any:
    """As autocast would hand them to a linear layer."""
    kind = hidden.device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return hidden, *others
    dtype, cast = torch.get_autocast_dtype(kind), (torch.float16, torch.bfloat16, torch.float32)
    return tuple(x.to(dtype) if x is not None and x.dtype in cast else x for x in (hidden, *others))
