"""The one training step loop, for training and for unlearning, in both tracks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from loreun_bench.harness.progress import report
from loreun_bench.training.guards import FiniteGuard, check_parameters
from loreun_bench.training.snapshots import Snapshots, Weights

Batch = TypeVar("Batch")


class Constraint(Protocol):
    """Something that keeps parameters where they must be, such as a saliency mask."""

    def before_step(self) -> None:
        """Called when gradients are ready."""
        ...

    def after_step(self) -> None:
        """Called when parameters have moved."""
        ...


def run_steps(
    model: nn.Module,
    batches: Iterable[Batch],
    objective: Callable[[Batch], Tensor],
    optimiser: torch.optim.Optimizer,
    schedule: Any = None,
    constraint: Constraint | None = None,
    total: int = 0,
    snapshots: Snapshots | None = None,
) -> None:
    """One optimiser step for each batch. `objective(batch)` is the scalar loss. Raises Diverged when it is not finite.

    total: how many batches there are, if that is known, for the display of progress. snapshots: keeps checkpoints, from
    which a run that was killed goes on; `batches` must not depend on what steps change.
    """
    guard, batches, done = FiniteGuard(), iter(batches), 0
    if snapshots is not None:
        weights = Weights(model, optimiser)
        done = snapshots.begin(model, batches, weights=weights, optimiser=optimiser, schedule=schedule, guard=guard)
    for number, batch in enumerate(batches, done):
        report(number / total if total else 0.0)
        loss = objective(batch)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        guard.watch(loss)
        if constraint is not None:
            constraint.before_step()
        optimiser.step()
        if constraint is not None:
            constraint.after_step()
        if schedule is not None:
            schedule.step()
        if snapshots is not None:
            snapshots.after(model, number + 1, batch)
    guard.verdict()
    check_parameters(model.parameters())


def epoch(size: int, batch_size: int, generator: torch.Generator, least: int = 1) -> tuple[Tensor, ...]:
    """Positions 0 … size-1 in a random order, in batches as `cuts` says; none is left out."""
    order = torch.randperm(size, generator=generator, device=generator.device)
    return tuple(order.split(cuts(size, batch_size, least)))


def cuts(size: int, batch_size: int, least: int = 1) -> list[int]:
    """The sizes of an epoch's batches; the last may be smaller, and if it has fewer than `least` samples it is one with
    the batch before it, so that batch norm never sees a lone sample."""
    whole, rest = divmod(size, batch_size)
    if whole and 0 < rest < least <= batch_size:
        return [batch_size] * (whole - 1) + [batch_size + rest]
    return [batch_size] * whole + [rest] * (rest > 0)


def autocast(device: str, precision: str) -> torch.autocast:
    """Matrix products and convolutions in bfloat16 if `precision` is "bf16", as they are if "fp32"; ValueError for what a
    plan settles, "auto"."""
    if precision not in ("fp32", "bf16"):
        raise ValueError(f"precision is {precision!r}, expected fp32 or bf16: `automatic` says which")
    return torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16")


def automatic(device: str) -> str:
    """What `precision: auto` comes to: "bf16" where torch says that the hardware multiplies in bfloat16 (AVX-512 BF16, AMX;
    a GPU that is not here is taken to), "fp32" elsewhere, where bfloat16 would be slower."""
    if device == "cuda":
        emulates = torch.cuda.is_available() and not torch.cuda.is_bf16_supported(including_emulation=False)
        return "fp32" if emulates else "bf16"
    if hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
        return "bf16" if found.get("avx512_bf16") or found.get("amx_bf16") else "fp32"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else "fp32"
