"""Cross entropy of logits = hidden @ weight.T + bias that never exist whole: they are made twice, a chunk at a time.

Pass 1 takes some rows at a time and keeps four numbers of each. What happens to the rows' losses then is plain PyTorch on
[N] numbers, and autograd brings back a coefficient for each. Pass 2 takes some classes at a time, of all rows: so the
gradient of `weight` is written once, in its own type, and only that of `hidden`, which is smaller, is a sum over chunks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from loreun_bench.ops import checks, native, reference
from loreun_bench.ops.autograd import refuse_double_backward
from loreun_bench.ops.calls import Stats

CHUNK = 1 << 22  # logits at a time, as many as a cache holds; see benchmarks/linear.py
FEWEST_ROWS, FEWEST_CLASSES = 128, 512  # but no fewer of these at a time: products would wait for memory


def cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, score_target: Tensor | None,
    score_loss: Tensor | None, eta: float, direction: str, ref_loss: float | Tensor, distance: str, ignore_index: int,
    label_smoothing: float, detach: bool, scale: float, return_stats: bool, group: Any, chunk_size: int | None,
) -> Any:  # fmt: skip
    """`loreun_linear_cross_entropy`."""
    checks.settings(eta, direction, distance)
    shape = target.shape
    hidden, weight, bias = _autocast(hidden, weight, bias)
    checks.linear(hidden, weight, bias, target, score_target, score_loss, chunk_size)
    hidden, target = hidden.reshape(-1, hidden.shape[-1]), target.reshape(-1)
    score_target, score_loss, ref_loss = (_flat(values, shape) for values in (score_target, score_loss, ref_loss))
    like = hidden.new_empty(()).expand(len(hidden), len(weight))  # of the shape of the logits, without their memory
    checks.cross_entropy(like, target, score_target, score_loss, ref_loss, distance, ignore_index, label_smoothing, False)
    losses = Losses.apply(hidden, weight, bias, target, score_target, ignore_index, label_smoothing, chunk_size)
    score = losses[0 if score_target is None and label_smoothing == 0.0 else 1]
    if score_loss is not None:
        score = score_loss.to(score.dtype)
    found = reference.reduce(
        losses[0], score, target != ignore_index, eta, direction, ref_loss, distance, detach, scale, group
    )
    if not return_stats:
        return found.loss
    objective, score, weights = (values.detach().reshape(shape) for values in found[1:])
    return found.loss, Stats(objective, score, weights, 1 / weights.square().sum())


class Losses(torch.autograd.Function):
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
        objective, score, largest, log_sum = torch.cat(tables, 1).unbind()
        ctx.save_for_backward(hidden, weight, bias, target, score_target, torch.stack([largest, log_sum]))
        ctx.settings, ctx.chunk_size = (ignore_index, label_smoothing), chunk_size
        ctx.set_materialize_grads(False)
        return objective, score

    @staticmethod
    def backward(ctx: Any, grad_objective: Tensor | None, grad_score: Tensor | None) -> Any:
        """Pass 2, over classes."""
        refuse_double_backward("loreun_linear_cross_entropy")
        hidden, weight, bias, target, score_target, table = ctx.saved_tensors
        given = (torch.zeros_like(table[0]) if grad is None else grad for grad in (grad_objective, grad_score))
        rows = Rows(target, score_target, table, torch.stack(list(given)), len(weight), *ctx.settings)
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


class Rows:
    """What pass 2 knows of the rows. table: largest logit and log-sum [2, N]; coefficients: of both losses [2, N]."""

    def __init__(
        self, target: Tensor, score_target: Tensor | None, table: Tensor, coefficients: Tensor, classes: int,
        ignore_index: int, label_smoothing: float,
    ) -> None:  # fmt: skip
        self.target, self.score_target = target, target if score_target is None else score_target
        self.ignored = target == ignore_index
        self.largest, self.log_sum = table.unsqueeze(2)
        objective, score = coefficients.unsqueeze(2)
        self.both, self.objective, self.score = objective + score, objective * (1 - label_smoothing), score
        self.everywhere = objective * (label_smoothing / classes) if label_smoothing else None
        self.compiled = self._for_compiled()

    def _for_compiled(self) -> tuple[Tensor, ...] | None:
        """The row factors as the compiled operator takes them, if it can: as logarithms, and one sign for all."""
        both = self.both.squeeze(1)
        if self.everywhere is not None or not native.serves(both) or torch.compiler.is_compiling():
            return None
        sign = 1.0 if bool((both >= 0).all()) else -1.0
        if not bool((sign * both >= 0).all()):  # of both signs, or NaN
            return None
        empty = torch.zeros_like(both)
        table = torch.stack([empty, empty, both.abs().log(), self.largest.squeeze(1), self.log_sum.squeeze(1)])
        label = -self.ignored.long()  # the first class, or -1: to be ignored
        return both.new_tensor(sign), label, table, both.new_zeros(2, dtype=torch.float64)


def logits_of(hidden: Tensor, weight: Tensor, bias: Tensor | None, memory: Tensor) -> Tensor:
    """hidden @ weight.T + bias, in the memory of a chunk before that was as large or larger, or else in new memory."""
    shape = len(hidden), len(weight)
    fits = memory.numel() >= shape[0] * shape[1]
    into = memory.view(-1)[: shape[0] * shape[1]].view(shape) if fits else hidden.new_empty(shape)
    return torch.mm(hidden, weight.T, out=into) if bias is None else torch.addmm(bias, hidden, weight.T, out=into)


def losses_of_rows(
    logits: Tensor, target: Tensor, score_target: Tensor | None, ignore_index: int, label_smoothing: float
) -> Tensor:
    """Of [n, V] logits [4, n]: objective loss, score loss, largest logit, log of the sum of exp(logit − largest)."""
    if native.serves(logits):
        weighting = (None, None, 0.0, False, True)  # no scores given, no reference, eta, ratio, detach
        table: Tensor = torch.ops.loreun.ce_forward.default(
            logits, target, score_target, *weighting, ignore_index, label_smoothing, 1.0, False
        )[1]
        return table[[0, 1, 3, 4]]
    found = reference.cross_entropy(
        logits, target, score_target, None, ignore_index=ignore_index, label_smoothing=label_smoothing, eta=0.0,
        direction="forget", ref_loss=0.0, distance="difference", detach=True, scale=1.0, group=None,
    )  # fmt: skip
    largest = logits.amax(1, keepdim=True).to(found.objective.dtype)
    log_sum = torch.logsumexp(logits - largest, 1)
    return torch.stack([found.objective, found.score, largest.squeeze(1), log_sum])


def gradient_of_rows(logits: Tensor, rows: Rows, first: int) -> Tensor:
    """Writes the gradient over the logits [N, v] of v classes from `first` on, and returns them.

    It is both·p − everywhere, less the objective's coefficient at the label and the score's at the score label.
    """
    if rows.compiled is None:
        return _gradient_in_pytorch(logits, rows, first)
    # the compiled operator wants a label in each row: it gets the first class, and cells of labels are set afterwards
    columns = torch.stack([torch.zeros_like(rows.target), rows.target - first, rows.score_target - first], 1)
    places = columns.clamp(0, logits.shape[1] - 1)
    p = (logits.gather(1, places) - rows.largest - rows.log_sum).exp()
    cells = rows.both * p - rows.objective * (places == columns[:, 1:2]) - rows.score * (places == columns[:, 2:])
    cells.masked_fill_(rows.ignored.unsqueeze(1), 0.0)
    sign, label, table, batch = rows.compiled
    settings = (0.0, False, True, -1, 0.0, 1.0)  # eta, ratio, detach, ignore_index, label_smoothing, scale
    torch.ops.loreun.ce_backward_.default(sign, logits, label, None, None, None, table, batch, *settings)
    return logits.scatter_(1, places, cells.to(logits.dtype))


def _gradient_in_pytorch(logits: Tensor, rows: Rows, first: int) -> Tensor:
    grad = logits.to(rows.both.dtype)
    grad.sub_(rows.largest).sub_(rows.log_sum).exp_().mul_(rows.both)
    if rows.everywhere is not None:
        grad.sub_(rows.everywhere)
    for label, coefficient in ((rows.target, rows.objective), (rows.score_target, rows.score)):
        column = (label - first).unsqueeze(1)
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


def _autocast(hidden: Tensor, *others: Tensor | None) -> Any:
    """As autocast would hand them to a linear layer."""
    kind = hidden.device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return hidden, *others
    dtype, cast = torch.get_autocast_dtype(kind), (torch.float16, torch.bfloat16, torch.float32)
    return tuple(x.to(dtype) if x is not None and x.dtype in cast else x for x in (hidden, *others))


def _flat(values: Any, shape: torch.Size) -> Any:
    """Values of the rows as [N]; what does not fit is left for the checks to refuse."""
    return values.reshape(-1) if isinstance(values, Tensor) and values.dim() > 1 and values.shape == shape else values
