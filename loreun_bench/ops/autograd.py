"""The compiled operator under autograd.

The forward pass may return the gradient as well, made for an incoming gradient of 1: the operator decides by its size
and type. Every microsecond of this file is paid once per training step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from loreun_bench.ops import checks, distributed
from loreun_bench.ops.rules import GIVEN, NORMALIZE, Rule

NAMES = {"ce": "loreun_cross_entropy", "mse": "loreun_mse_loss"}
# As the kernels take them: rule, eta, reference, importance, ratio, normalize, detach. Here of weights that are made between
# the passes: every row weighs the same until then, and their number is counted.
UNWEIGHTED = (GIVEN, 0.0, 0.0, 1.0, False, NORMALIZE["mean"], True)
DETACH = 6  # its place in the settings


def refuse_double_backward(name: str) -> None:
    """RuntimeError under create_graph=True: once_differentiable says nothing where no gradient flows on."""
    if torch.is_grad_enabled():  # only under create_graph=True
        raise RuntimeError(f"{name} has no second derivative: call backward without create_graph=True")


def _scaled(grad: Tensor, grad_out: Tensor) -> Tensor:
    """grad · grad_out, in place, for a ready gradient that nobody else holds."""
    if grad.device.type == "cuda":
        torch.ops.loreun.scale_.default(grad, grad_out)  # looks at grad_out on the device: no wait
    elif type(grad) is not Tensor:  # fake: there is no number to look at
        grad.mul_(grad_out)
    elif (factor := grad_out.item()) != 1.0:
        grad.mul_(factor)
    return grad


def _forward(kind: str) -> Any:
    return torch.ops.loreun.ce_forward.default if kind == "ce" else torch.ops.loreun.mse_forward.default


def _backward(kind: str) -> Any:
    return torch.ops.loreun.ce_backward.default if kind == "ce" else torch.ops.loreun.mse_backward.default


class Loss(torch.autograd.Function):
    """One batch's loss, "ce" or "mse", differentiable in its first tensor; with_stats adds table [rows, N] and batch [3].

    inputs: what the operator takes after its three tensors, in its order; settings: after that. rule: a function of the
    scores whose weights come between the passes; settings are then those of UNWEIGHTED, and with_stats
    adds the divided weights [N]. csrc/torch/eager.cpp does the same in C++ for the torch it was built with, but for group
    and rule, and where a mode or a subclass of Tensor has to hear of the call.
    """

    @staticmethod
    def forward(
        ctx: Any, kind: str, x: Tensor, target: Tensor, score_target: Tensor | None, inputs: tuple[Tensor | None, ...],
        settings: tuple[Any, ...], rule: Rule | None, normalize: str, inplace: bool, group: Any, with_stats: bool,
        with_grad: bool,
    ) -> Any:  # fmt: skip
        """Run the forward kernel; see loreun_bench.ops.functional for the arguments."""
        may = with_grad and ctx.needs_input_grad[1] and not torch.compiler.is_compiling()
        may = may and not inplace and group is None
        loss, table, batch, grad = _forward(kind)(x, target, score_target, *inputs, *settings, may)
        *shared, scale = settings[DETACH + 1 :]
        weights: tuple[Tensor, ...] = ()
        if rule is not None:
            found = rule(table[1])
            checks.weights(found, table[1], look=False)
            made = found.detach().to(table.dtype).contiguous()
            try:
                loss, divided = torch.ops.loreun.weigh.default(table, batch, made, NORMALIZE[normalize], scale)
            except RuntimeError:
                checks.weights(found, table[1])
                raise
            weights = (divided,)
            if grad.numel():  # what pass 1 kept for pass 2
                kept, grad = grad, grad if grad.dtype == x.dtype else torch.empty_like(grad, dtype=x.dtype)
                torch.ops.loreun.ce_backward_.default(
                    None, grad, target, None, table, batch, divided, None, *shared, scale, kept
                )
        if group is not None:
            loss, batch, scale = distributed.combine(batch, scale, group, normalize, loss.dtype)
        saved = None if settings[DETACH] else score_target
        ctx.save_for_backward(x, target, saved, table, batch, *(weights or (None,)))
        ctx.kind, ctx.shared, ctx.inplace = kind, (*shared, scale), inplace
        ctx.early = grad if may and grad.numel() else None
        if not with_stats:
            return loss  # every further output costs autograd 3 µs
        ctx.mark_non_differentiable(table, batch, *weights)
        return loss, table, batch, *weights

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor, *unused: Any) -> Any:
        """The gradient with respect to the first tensor; twice only without create_graph."""
        refuse_double_backward(NAMES[ctx.kind])
        nothing = (None,) * 10
        if ctx.early is not None:
            grad, ctx.early = ctx.early, None  # a second pass through a kept graph computes it anew
            return None, _scaled(grad, grad_out), *nothing
        x, *others = ctx.saved_tensors
        if ctx.inplace:
            torch.ops.loreun.ce_backward_.default(grad_out, x, *others, None, *ctx.shared, None)
            torch.autograd.graph.increment_version(x)  # whoever else saved them is told
            return None, x.detach(), *nothing
        return None, _backward(ctx.kind)(grad_out, x, *others, None, *ctx.shared), *nothing


class Rows(torch.autograd.Function):
    """Every row's objective and score loss [N], both differentiable in the first tensor, and which rows are kept.

    shared: ignore_index and label_smoothing, or whether a squared error is a mean.
    """

    @staticmethod
    def forward(ctx: Any, kind: str, x: Tensor, target: Tensor, score_target: Tensor | None, shared: tuple[Any, ...]) -> Any:
        """The first of the two passes."""
        inputs = (None,) * (4 if kind == "ce" else 3)
        _, table, batch, _ = _forward(kind)(x, target, score_target, *inputs, *UNWEIGHTED, *shared, 1.0, False)
        ctx.save_for_backward(x, target, score_target, table, batch)
        ctx.kind, ctx.shared = kind, shared
        kept = table[2] != float("-inf")
        ctx.mark_non_differentiable(kept)
        return table[0].clone(), table[1].clone(), kept

    @staticmethod
    def backward(ctx: Any, objective: Tensor, score: Tensor, unused: Any) -> Any:
        """The second: each row's gradient, times what arrives for it."""
        refuse_double_backward(NAMES[ctx.kind])
        x, *others = ctx.saved_tensors
        each = (objective.contiguous(), score.contiguous())
        return None, _backward(ctx.kind)(None, x, *others, *each, *ctx.shared, 1.0), None, None, None
