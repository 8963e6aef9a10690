"""One model on several processes, its ranks: each passes its own rows of a batch through the network, then has them all.

All else every rank does alike, from the same seeds: it draws the whole batch, and has the logits of the whole batch, so that
weightings (whose softmax is over the batch), losses, penalties, masks and counts are those of one process, whoever wrote
them. Gradients are averaged parameter by parameter, on the bare module: no wrapper changes names, hooks or checkpoints, and
gradients that a method asks for itself are averaged, too. What that costs beside torch's DistributedDataParallel: batches
are made by every rank, and communication does not overlap with the backward pass.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from loreun_bench.harness.seeding import derive

_alone = nn.functional.batch_norm


@dataclass
class _Pass:
    """The latest pass: rows of the whole batch (0: it was not split), how many there were, global generators before it."""

    rows: int = 0
    number: int = 0
    generators: tuple[Tensor, ...] = ()


_pass = _Pass()


@contextlib.contextmanager
def spread(model: nn.Module) -> Iterator[None]:
    """Inside, calls of `model` and of copies made of it are shared among the ranks; nothing happens in a process that has
    none. A batch with fewer rows than there are ranks is passed by each of them as a whole."""
    if not (dist.is_available() and dist.is_initialized()):
        yield
        return
    hooks = [model.register_forward_pre_hook(_divide, with_kwargs=True), model.register_forward_hook(_unite)]
    nn.functional.batch_norm = _batch_norm  # of functions and of modules, whichever library's they are
    try:
        yield
    finally:
        nn.functional.batch_norm = _alone
        for hook in hooks:
            hook.remove()


def gathered(rows: Tensor) -> Tensor:
    """All ranks' rows [n, …] of the pass under way, for a hook within a network, which sees its own rank's; in one process,
    what is given. Differentiable."""
    found: Tensor = _All.apply(rows, _pass.rows) if _pass.rows else rows
    return found


def _divide(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
    ranks = dist.get_world_size()
    sizes = [len(each) for each in (*args, *kwargs.values()) if isinstance(each, Tensor) and each.dim() > 1]
    _pass.rows = sizes[0] if sizes and sizes[0] >= ranks else 0
    for parameter in module.parameters():
        if parameter.requires_grad and not hasattr(parameter, "_averaged"):  # a copy of the module has others
            parameter._averaged = parameter.register_hook(_average)  # type: ignore[attr-defined]
    if not _pass.rows:
        return None

    def own(value: Any) -> Any:
        whole = isinstance(value, Tensor) and value.dim() > 0 and len(value) == _pass.rows
        return _Own.apply(value) if whole else value

    if module.training:  # dropout differs from rank to rank, what others draw does not
        _pass.number += 1
        _pass.generators = _generators()
        torch.manual_seed(derive(torch.initial_seed(), "rank", dist.get_rank(), _pass.number))
    return tuple(map(own, args)), {name: own(value) for name, value in kwargs.items()}


def _unite(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
    if not _pass.rows:
        return None
    if _pass.generators:
        torch.set_rng_state(_pass.generators[0])
        for state in _pass.generators[1:]:
            torch.cuda.set_rng_state(state)
        _pass.generators = ()
    return tree_map(lambda value: gathered(value) if isinstance(value, Tensor) and value.dim() else value, output)


def _generators() -> tuple[Tensor, ...]:
    """The states of the global ones, the GPU's last."""
    gpu = (torch.cuda.get_rng_state(),) if torch.cuda.is_initialized() else ()
    return torch.get_rng_state(), *gpu


def _average(gradient: Tensor) -> Tensor:
    """Over the ranks: a network's is this rank's rows' times the number of ranks, a penalty's the same on all."""
    whole = gradient.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(whole)
    return whole / dist.get_world_size()


def _all_rows(own: Tensor, rows: int) -> Tensor:
    """The ranks' rows one after the other; collectives want tensors of one size."""
    ranks = dist.get_world_size()
    sizes = [len(each) for each in torch.arange(rows).tensor_split(ranks)]
    if len(own) != sizes[dist.get_rank()]:
        raise ValueError(f"{len(own)} rows come out of a network that was given {sizes[dist.get_rank()]}: set ranks to 1")
    padded = own.new_zeros(sizes[0], *own.shape[1:])
    padded[: len(own)] = own
    found = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(found, padded)
    return torch.cat([each[:size] for each, size in zip(found, sizes, strict=True)])


class _Own(torch.autograd.Function):
    """This rank's rows of a batch that all have."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor) -> Tensor:
        ctx.rows = len(whole)
        return whole.tensor_split(dist.get_world_size())[dist.get_rank()].clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _all_rows(gradient, ctx.rows) / dist.get_world_size()


class _All(torch.autograd.Function):
    """The rows of all ranks. What comes back is the same on all of them: the rank's own part, times their number, as
    gradients are averaged afterwards."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, rows: int) -> Tensor:
        return _all_rows(own.detach(), rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        ranks = dist.get_world_size()
        return gradient.tensor_split(ranks)[dist.get_rank()] * ranks, None


class _Sum(torch.autograd.Function):
    """The sum over the ranks, forward and backward."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        whole = value.detach().clone()
        dist.all_reduce(whole)
        return whole

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        whole: Tensor = _Sum.apply(gradient)
        return whole


def _batch_norm(
    input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None,
    bias: Tensor | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """torch's, by the mean and variance of the whole batch. (Its SyncBatchNorm runs on GPUs alone.)"""
    if not (training and _pass.rows):
        return _alone(input, running_mean, running_var, weight, bias, training, momentum, eps)
    x = input.to(torch.promote_types(input.dtype, torch.float32))
    others, shape = [0, *range(2, x.dim())], (1, -1, *(1,) * (x.dim() - 2))
    own = x.new_full((1,), x.numel() / max(x.shape[1], 1))
    found: Tensor = _Sum.apply(torch.cat([x.sum(others), own]))
    mean, count = found[:-1] / found[-1], found[-1].detach()
    centred = x - mean.view(shape)
    variance: Tensor = _Sum.apply(centred.square().sum(others)) / count
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((variance * (count / (count - 1))).to(running_var.dtype), momentum)
    x = centred * torch.rsqrt(variance + eps).view(shape)
    x = x if weight is None else x * weight.view(shape)
    return (x if bias is None else x + bias.view(shape)).to(input.dtype)
